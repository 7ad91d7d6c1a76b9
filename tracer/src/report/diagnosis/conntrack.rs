//! Conntrack drops packets itself: it has no room, or two connections want to be one.
//!
//! Both show as drops by a netfilter hook that no rule explains. With its table full, conntrack drops
//! what begins a connection where it looks first, in prerouting or output (`nf_conntrack_in`). A
//! connection that another has got ahead of, by the same tuple after translation, is dropped
//! where it is confirmed, at the end of postrouting or input (`nf_conntrack_confirm`).

use super::{Case, Diagnosis, Layer, Loss, filter, words::inside};
use crate::{
    journey::model::{Direction, Stage, Tracking},
    report::PacketReport,
};

/// Conntrack dropped packets of the client's.
pub(super) fn refused(case: &Case<'_>) -> Option<Diagnosis> {
    let mut losses = case.seen.evidence.losses(Direction::Original);
    losses.find_map(|loss| {
        let report = case.known.packet(&loss.sample);
        let drop = report.drop.as_ref()?;
        if !filter::is_by_rules(drop) || drop.rule.is_some() {
            return None;
        }
        match drop.stage {
            Stage::Prerouting | Stage::Output => table_full(case, loss, &report),
            Stage::Input | Stage::Postrouting => clash(case, loss, &report),
            _ => None,
        }
    })
}

/// Where the node says that its table is nearly full.
fn table_full(case: &Case<'_>, loss: &Loss, report: &PacketReport) -> Option<Diagnosis> {
    let hop = loss.sample.hops.last()?;
    let namespace = case.known.at(hop.netns, hop.time)?;
    let (count, max) = namespace.network.conntrack?;
    let node = namespace.display_name();
    let what = format!("the table on {node} is full: it drops what begins a connection");
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
        "a connection with the same addresses and ports was confirmed{} a moment earlier, so that the first \
         packet of this one was dropped",
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
