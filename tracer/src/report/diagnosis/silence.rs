//! Nobody answers: how far the question came.

use super::{
    Case, Diagnosis, Layer,
    symptom::{DNS_PORT, SLOW, Symptom},
    words::{counted, question, seconds},
};
use crate::journey::model::{Packet, Stage, Verdict};

/// The question was seen last somewhere on its way, and there is no answer, or only a late one.
pub(super) fn not_answered(case: &Case<'_>) -> Option<Diagnosis> {
    match case.symptom {
        Symptom::Unanswered => unanswered(case),
        Symptom::Slow => slow(case),
        _ => None,
    }
}

fn unanswered(case: &Case<'_>) -> Option<Diagnosis> {
    let asked = case.seen.evidence.last_question()?;
    let (layer, cause, what) = how_far(case, asked);
    let place = case.last_seen(asked);
    let count = counted(case.flow.packets[0], question(asked));
    let waited = seconds(case.seen.until.saturating_sub(case.flow.first));
    let command = format!("ip route get {}", asked.hops.last()?.tuple.destination.ip());
    let hop = asked.hops.last()?;
    Some(
        Diagnosis::new(layer, cause, what)
            .culprit(&place)
            .seen(format!("{count}, no answer in {waited}"))
            .seen(format!("seen last at {place}"))
            .look(match cause {
                "server-silent" => case.command_in(hop.netns, hop.time, "ss -tulnp"),
                _ => case.command_in(hop.netns, hop.time, &command),
            }),
    )
}

/// Where a question ended.
fn how_far(case: &Case<'_>, asked: &Packet) -> (Layer, &'static str, String) {
    let called = case.called();
    let backend = case.backend();
    let is_dns = case.flow.destination.port == DNS_PORT && case.flow.protocol == 17;
    let last = asked.hops.iter().rfind(|hop| hop.stage != Stage::Drop);
    match asked.verdict {
        Verdict::Delivered if last.is_some_and(|hop| hop.stage == Stage::Socket) => {
            let layer = if is_dns { Layer::Dns } else { Layer::Server };
            let what = format!("{backend} gets what it is asked and does not answer");
            (layer, "server-silent", what)
        }
        Verdict::Left => {
            let what = format!("what is sent to {called} leaves this node, and nothing comes back");
            (Layer::Network, "no-answer-from-network", what)
        }
        _ => {
            let what = format!("what is sent to {called} does not arrive, and nobody says why");
            let between = last.is_some_and(|hop| {
                matches!(
                    hop.stage,
                    Stage::DeviceQueue | Stage::DeviceTransmit | Stage::Bridge
                )
            });
            let layer = if between {
                Layer::PodNetwork
            } else {
                Layer::Routing
            };
            (layer, "lost-on-the-way", what)
        }
    }
}

fn slow(case: &Case<'_>) -> Option<Diagnosis> {
    let evidence = case.seen.evidence;
    let waited = evidence.answered_at()?.saturating_sub(case.flow.first);
    if waited < SLOW {
        return None;
    }
    let called = case.called();
    let what = format!(
        "{called} answered only after {}, to SYN {} of the client's",
        seconds(waited),
        evidence.syns()
    );
    let count = counted(u64::from(evidence.syns()), "SYN");
    let mut diagnosis = Diagnosis::new(Layer::Network, "slow-to-open", what).seen(count);
    if let Some(first) = evidence.first_question() {
        let place = case.last_seen(first);
        diagnosis = diagnosis
            .culprit(&place)
            .seen(format!("the first was seen last at {place}"));
    }
    Some(diagnosis)
}
