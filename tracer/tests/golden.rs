//! Recordings of earlier versions can be read, and say what they said.

use std::{
    error::Error,
    io::{self, Cursor},
};

use tracer::{
    filter::Filter,
    journey::{Journeys, Limits, Patience, Reasons},
    output::Sink,
    pipeline::{Pipeline, When},
    report::{FlowReport, Knowledge, PacketReport, StatsReport, protocol_name},
    trace::{Reader, Steps},
};

/// What is shown of TCP and UDP flows: the rest of a node's talk is of no interest here.
#[derive(Default)]
struct Flows(Vec<String>);

impl Sink for Flows {
    fn packet(&mut self, _: &PacketReport) -> io::Result<()> {
        Ok(())
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        let protocol = protocol_name(flow.protocol);
        if protocol == "tcp" || protocol == "udp" {
            let backend = flow.backend.as_ref();
            let backend = backend.map_or("nobody".to_owned(), |party| party.endpoint.to_string());
            self.0.push(format!(
                "{protocol} {} -> {} => {backend} {:?} {:?} drops {} holes {}",
                flow.client.endpoint.ip(),
                flow.destination,
                flow.state,
                flow.packets,
                flow.drops,
                flow.holes,
            ));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.0.push(format!(
            "emitted {} lost {}",
            stats.total.emitted, stats.total.lost
        ));
        Ok(())
    }
}

fn flows(recording: &[u8]) -> Result<Vec<String>, Box<dyn Error>> {
    let reader = Reader::open(Cursor::new(recording))?;
    assert!(reader.ended_well());
    let about = reader.about().clone();
    let journeys = Journeys::new(
        Limits::default(),
        Patience::default(),
        Reasons::by_name(|name| about.reasons.number(name)),
    );
    let filter = Filter::default().resolve(&std::collections::BTreeMap::new())?;
    let mut pipeline = Pipeline::new(journeys, filter, When::AsTheyEnd, Flows::default());
    let mut steps = Steps::new(reader);
    loop {
        let step = steps.next_step()?;
        assert!(steps.take_damages().is_empty());
        let known = Knowledge {
            node: steps.node(),
            names: true,
            reasons: &about.reasons,
            function_at: &|address| steps.function_at(address).map(str::to_owned),
        };
        let Some(step) = step else {
            pipeline.finish(&known)?;
            return Ok(pipeline.into_sink().0);
        };
        pipeline.batch(&step.batch, &known)?;
        if let Some(now) = step.now {
            pipeline.advance(now, &known)?;
        }
    }
}

#[test]
fn version_1_0() {
    let recording = include_bytes!("../../tests/golden/lab-1.0.recording");
    let mut shown = flows(recording).unwrap();
    shown.sort();
    insta::assert_snapshot!(shown.join("\n"));
}
