//! Conntrack drops packets itself: it has no room, or two connections want to be one.
//!
//! Both show as drops by a netfilter hook that no rule explains. With its table full, conntrack drops
//! what begins a connection where it looks first, in prerouting or output (`nf_conntrack_in`). A
//! connection that another has got ahead of, by the same tuple after translation, is dropped
//! where it is confirmed, at the end of postrouting or input (`nf_conntrack_confirm`).

use super::{Case, Diagnosis, Layer, Loss, filter, words::inside};
use crate::{
    journey::model::{Direction, Stage, Tracking},
    report::{DropReport, PacketReport},
};

/// Conntrack dropped packets of the client's.
pub(super) fn refused(case: &Case<'_>) -> Option<Diagnosis> {
    let mut losses = case.seen.evidence.losses(Direction::Original);
    losses.find_map(|loss| {
        let report = case.known.packet(&loss.sample);
        let drop = report.drop.as_ref()?;
        if !filter::is_by_rules(drop) || drop.rule.is_some() || is_by_a_rule(drop) {
            return None;
        }
        match drop.stage {
            Stage::Prerouting | Stage::Output => table_full(case, loss, &report),
            Stage::Input | Stage::Postrouting => clash(case, loss, &report),
            _ => None,
        }
    })
}

/// Whether it was the rules' code that dropped it, whichever rule it was: kernels that give drops reasons in
/// hooks name the function that decided (6.4 and later).
fn is_by_a_rule(drop: &DropReport) -> bool {
    let rules = ["nft_", "ipt_", "ip6t_"];
    let function = drop.function.as_deref();
    function.is_some_and(|name| rules.iter().any(|known| name.starts_with(known)))
}

/// The count is read now and then: it may have been a little higher when the packet passed.
fn is_full(count: u64, max: u64) -> bool {
    count.saturating_mul(100) >= max.saturating_mul(99)
}

/// Where the node says that its table is nearly full.
fn table_full(case: &Case<'_>, loss: &Loss, report: &PacketReport) -> Option<Diagnosis> {
    let hop = loss.sample.hops.last()?;
    let namespace = case.known.at(hop.netns, hop.time)?;
    let (count, max) = namespace.network.conntrack?;
    let node = namespace.display_name();
    let full = if is_full(count, max) {
        "full"
    } else {
        "nearly full"
    };
    let what = format!("the table on {node} is {full}: it drops what begins a connection");
    let command = "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max";
    Some(
        Diagnosis::new(Layer::Conntrack, "conntrack-full", what)
            .culprit("net.netfilter.nf_conntrack_max")
            .seen(format!("{count} connections of at most {max}"))
            .seen(case.drops(loss, report))
            .look(case.command_in(hop.netns, hop.time, command)),
    )
}

/// Where the rules are known, and none of them drops the first packet of the connection.
fn clash(case: &Case<'_>, loss: &Loss, report: &PacketReport) -> Option<Diagnosis> {
    let dropped = loss.sample.dropped?;
    let mut hops = loss.sample.hops.iter().rev();
    let hop = hops.find(|hop| hop.stage == dropped.stage && hop.netns == dropped.netns)?;
    let new = hop.call.is_some_and(|call| call.tracking == Tracking::New);
    let namespace = case.known.at(hop.netns, hop.time)?;
    if !new || namespace.rules.last().is_none() {
        return None;
    }
    let name = namespace.display_name();
    let what = format!(
        "conntrack{} did not take this connection, as it seems: most likely another packet had the same \
         addresses and ports and got ahead of it",
        inside(Some(&name))
    );
    let command = "conntrack -S";
    Some(
        Diagnosis::new(Layer::Conntrack, "conntrack-clash", what)
            .culprit("nf_conntrack_confirm")
            .seen(case.drops(loss, report))
            .seen("no rule drops it there")
            .look(case.command_in(hop.netns, hop.time, command)),
    )
}
