//! Whether the one flow that was traced beside the flood is there as a whole.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::ensure;
use tracer_tests::load::SIZE;
use tracer_tests::trace::json::{Direction, Flow, State, Trace};

/// What was seen of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complete {
    packets: usize,
    requests: u64,
}

impl fmt::Display for Complete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, requests } = self;
        write!(
            f,
            "all {requests} requests with their answers, {packets} packets, no hole, nothing lost"
        )
    }
}

/// Reads the JSON of a tracer that saw one flow of requests and answers, all of the same size.
///
/// # Errors
/// When anything of it is missing: a hole, a loss, the connection's begin or end, a byte.
pub(super) fn complete(output: &str) -> anyhow::Result<Complete> {
    let trace = Trace::read(output.lines())?;
    let lost = trace.totals()?.lost;
    ensure!(lost == 0, "{lost} events lost");
    let [flow] = &trace.flows[..] else {
        anyhow::bail!("{} flows, not one", trace.flows.len());
    };
    ensure!(flow.holes == 0, "{} holes", flow.holes);
    ensure!(!flow.affected_by_loss, "affected by loss");
    ensure!(
        matches!(flow.state, State::Closed | State::Reset),
        "not seen to its end: {:?}",
        flow.state
    );
    let requests = messages(&trace, flow, Direction::Original)?;
    let answers = messages(&trace, flow, Direction::Reply)?;
    ensure!(
        requests == answers && requests > 0,
        "{requests} requests and {answers} answers"
    );
    Ok(Complete {
        packets: trace.packets_of(flow).len(),
        requests,
    })
}

/// How many messages went that way, each once, without a gap in the sequence numbers.
fn messages(trace: &Trace, flow: &Flow, direction: Direction) -> anyhow::Result<u64> {
    let size = u32::try_from(SIZE)?;
    let packets = trace.packets_of(flow);
    let ways = packets
        .iter()
        .filter(|packet| packet.direction == direction);
    let with_bytes = ways.filter(|packet| packet.payload > 0);
    let begins: BTreeSet<u32> = with_bytes
        .filter_map(|packet| packet.tcp.as_ref())
        .map(|tcp| tcp.seq)
        .collect();
    // Sequence numbers go round; the flow's are neighbours, so at most one step is not a message's.
    let after = begins.iter().skip(1);
    let steps = begins.iter().zip(after);
    let gaps = steps.filter(|(a, b)| **b - **a != size).count();
    let round = begins.contains(&0) || begins.last().is_some_and(|last| *last > u32::MAX - size);
    ensure!(gaps <= usize::from(round), "{gaps} gaps in what was seen");
    Ok(begins.len() as u64)
}
