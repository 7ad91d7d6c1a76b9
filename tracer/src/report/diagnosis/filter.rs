//! A filter: a rule that dropped or rejected packets.

use super::{
    Case, Diagnosis, Layer, Loss,
    symptom::Symptom,
    words::{counted, deciding, list_chain, question},
};
use crate::{
    journey::model::{Direction, Stage},
    node::rules::path::{Place, Step},
    report::{DropReport, PacketReport},
};

/// Whether the rules of a netfilter hook dropped it.
pub(super) fn is_by_rules(drop: &DropReport) -> bool {
    let in_hook = matches!(
        drop.stage,
        Stage::Prerouting | Stage::Input | Stage::Forward | Stage::Output | Stage::Postrouting
    );
    let reason = drop.reason.as_deref();
    in_hook && reason.is_none_or(|reason| ["NETFILTER_DROP", "NOT_SPECIFIED"].contains(&reason))
}

/// A rule dropped the client's packets, or the answers.
pub(super) fn dropped_by_rule(case: &Case<'_>) -> Option<Diagnosis> {
    let evidence = case.seen.evidence;
    let losses = match case.symptom {
        Symptom::AnswerLost => [Direction::Reply, Direction::Original],
        _ => [Direction::Original, Direction::Reply],
    };
    losses
        .into_iter()
        .flat_map(|direction| evidence.losses(direction))
        .find_map(|loss| by_rule(case, loss))
}

fn by_rule(case: &Case<'_>, loss: &Loss) -> Option<Diagnosis> {
    let report = case.known.packet(&loss.sample);
    let drop = report.drop.as_ref()?;
    let rule = drop.rule.as_ref().filter(|_| is_by_rules(drop))?;
    let step = deciding(rule)?;
    let whose = match loss.sample.direction {
        Direction::Original => "the client's packets",
        Direction::Reply => "the answers",
    };
    let sure = if rule.certain { "" } else { "probably " };
    let node = super::words::inside(drop.pod.as_deref().or(drop.netns.as_deref()));
    let rejects = case.symptom == Symptom::Refused;
    let verb = if rejects { "rejects" } else { "drops" };
    let cause = if rejects {
        "rejected-by-rule"
    } else {
        "dropped-by-rule"
    };
    let what = format!("{sure}{}{node} {verb} {whose}", named(step));
    let hop = loss.sample.hops.last()?;
    let address = hop.tuple.destination.ip();
    let command = case.command_in(hop.netns, hop.time, &list_chain(step, address));
    Some(
        Diagnosis::new(Layer::Filter, cause, what)
            .culprit(step.to_string())
            .seen(case.drops(loss, &report))
            .look(command),
    )
}

/// `rule 3 of filter FORWARD: -A FORWARD ... -j DROP`, `the policy of filter FORWARD`.
fn named(step: &Step) -> String {
    match step.place {
        Place::Policy => format!("the policy of {} {}", step.table, step.chain),
        _ => format!("{step} `{}`", step.text),
    }
}

/// How many packets the rules refused, and by which rule.
pub(super) fn told(case: &Case<'_>, loss: &Loss, report: &PacketReport) -> String {
    let by = report.drop.as_ref().and_then(|drop| drop.rule.as_ref());
    match by.and_then(deciding) {
        Some(step) => {
            let place = super::words::inside(
                report
                    .drop
                    .as_ref()
                    .and_then(|drop| drop.pod.as_deref().or(drop.netns.as_deref())),
            );
            let count = counted(loss.count, question(&loss.sample));
            format!("{count} refused by {step}{place}")
        }
        None => case.drops(loss, report),
    }
}
