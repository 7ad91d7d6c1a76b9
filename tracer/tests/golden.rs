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
struct Flows {
    lines: Vec<String>,
    /// Whether it is shown what the first version did not know of.
    names: bool,
}

/// The Service, the name that was asked for, the process, the rules' chains, what is wrong.
fn names(flow: &FlowReport) -> String {
    let process = flow.client.process.as_ref().map(|it| it.comm.as_str());
    let service = flow.service.as_ref().map(ToString::to_string);
    let rules = flow.translations.iter().filter_map(|placed| {
        let rule = placed.translation.rule.as_ref()?;
        let chains: Vec<&str> = rule.path.iter().map(|step| step.chain.as_str()).collect();
        Some(chains.join(" > "))
    });
    let rules: Vec<String> = rules.collect();
    let diagnosis = flow.diagnosis.as_ref().map(|diagnosis| diagnosis.cause);
    format!(
        "\n    of {process:?} to {service:?} by {rules:?}, wrong {diagnosis:?}, lookups {}",
        flow.lookups.len()
    )
}

impl Sink for Flows {
    fn packet(&mut self, _: &PacketReport) -> io::Result<()> {
        Ok(())
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        let protocol = protocol_name(flow.protocol);
        if protocol == "tcp" || protocol == "udp" {
            let backend = flow.backend.as_ref();
            let backend = backend.map_or("nobody".to_owned(), |party| party.endpoint.to_string());
            let names = if self.names {
                names(flow)
            } else {
                String::new()
            };
            self.lines.push(format!(
                "{protocol} {} -> {} => {backend} {:?} {:?} drops {} holes {}{names}",
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
        self.lines.push(format!(
            "emitted {} lost {}",
            stats.total.emitted, stats.total.lost
        ));
        Ok(())
    }
}

fn flows(recording: &[u8], names: bool) -> Result<Vec<String>, Box<dyn Error>> {
    let reader = Reader::open(Cursor::new(recording))?;
    assert!(reader.ended_well());
    let about = reader.about().clone();
    let journeys = Journeys::new(
        Limits::default(),
        Patience::default(),
        Reasons::by_name(|name| about.reasons.number(name)),
    );
    let filter = Filter::default().resolve(&std::collections::BTreeMap::new())?;
    let sink = Flows {
        names,
        ..Flows::default()
    };
    let mut pipeline = Pipeline::new(journeys, filter, When::AsTheyEnd, sink);
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
            return Ok(pipeline.into_sink().lines);
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
    let mut shown = flows(recording, false).unwrap();
    shown.sort();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn version_1_1() {
    let recording = include_bytes!("../../tests/golden/lab-1.1.recording");
    let mut shown = flows(recording, true).unwrap();
    shown.sort();
    insta::assert_snapshot!(shown.join("\n"));
}
