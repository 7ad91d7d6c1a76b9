//! Names that were not found, or not in time.
//!
//! That a name does not exist is wrong only where the whole search was in vain: of the names of a search
//! path (`ndots`) most do not exist, and of a name's two kinds of addresses one often does not.

use super::{
    Case, Diagnosis, Layer,
    symptom::Symptom,
    words::{counted, seconds},
};
use crate::{
    dns::code_name,
    journey::model::{Direction, Packet},
    report::lookups::Lookup,
};

/// The response code of a name that does not exist.
const NXDOMAIN: u8 = 3;
/// Names of a search path that are said.
const NAMES: usize = 4;

/// A question of several has no answer.
pub(super) fn unanswered(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::LookupLost {
        return None;
    }
    let lookups = case.lookups();
    let mut open = lookups
        .iter()
        .filter(|lookup| lookup.is_unanswered(case.seen.until));
    let lookup = open.clone().max_by_key(|lookup| lookup.sent)?;
    let sent: u32 = open.by_ref().map(|lookup| lookup.sent).sum();
    let answered = lookups.iter().filter(|it| it.answered.is_some()).count();
    let count = counted(answered as u64, "other question");
    let (called, backend) = (case.called(), case.backend());
    let what = match lookup.taken {
        Some(_) => format!("{backend} gets a question and does not answer it"),
        None => format!("a question to {called} does not arrive, or its answer does not come"),
    };
    let waited = case.seen.until.saturating_sub(lookup.asked?);
    Some(
        Diagnosis::new(Layer::Dns, "question-unanswered", what)
            .culprit(backend)
            .seen(format!(
                "{}, no answer in {}",
                counted(sent.into(), "datagram"),
                seconds(waited)
            ))
            .seen(format!("{count} of the same socket answered"))
            .look(case.dig(lookup)),
    )
}

/// An answer came late.
pub(super) fn slow(case: &Case<'_>) -> Option<Diagnosis> {
    if !matches!(case.symptom, Symptom::LookupSlow | Symptom::LookupLost) {
        return None;
    }
    let lookups = case.lookups();
    let slow = lookups.iter().filter(|lookup| lookup.is_slow());
    let lookup = slow.max_by_key(|lookup| lookup.took())?;
    let took = lookup.took()?;
    let name = lookup.answer.as_ref().map(|answer| answer.name.as_str());
    let name = name.map_or_else(String::new, |name| format!(" about {name}"));
    let (called, backend) = (case.called(), case.backend());
    // The last question of those that are known; an earlier one may have been answered as well.
    let thought = lookup.told.zip(lookup.taken);
    let thought = thought.map_or(0, |(told, taken)| told.saturating_sub(taken));
    let (culprit, what) = if thought >= took / 2 {
        let what = format!(
            "the name server {backend} took {} to answer{name}",
            seconds(thought)
        );
        (backend, what)
    } else {
        let what = format!("{called} answered{name} only after {}", seconds(took));
        (called, what)
    };
    let question = counted(lookup.sent.into(), "datagram");
    let mut diagnosis = Diagnosis::new(Layer::Dns, "slow-answer", what)
        .culprit(culprit)
        .seen(format!("{question}, answered after {}", seconds(took)));
    if let Some(first) = case.lost_question() {
        let place = case.last_seen(first);
        diagnosis = diagnosis.seen(format!("one was seen last at {place}"));
    }
    Some(diagnosis.look(case.dig(lookup)))
}

/// The name server says that it cannot or will not answer.
pub(super) fn failed(case: &Case<'_>) -> Option<Diagnosis> {
    let lookups = case.lookups();
    let lookup = lookups.iter().rev().find(|lookup| {
        let code = lookup.answer.as_ref().map_or(0, |answer| answer.code);
        let later = || case.seen.lookups.was_answered_later(case.flow, lookup);
        !matches!(code, 0 | NXDOMAIN) && !later()
    })?;
    let answer = lookup.answer.as_ref()?;
    let (code, backend) = (code_name(answer.code), case.backend());
    let why = match code.as_str() {
        "SERVFAIL" => ": it could not find out, or the servers that it asks do not answer it",
        "REFUSED" => ": it does not answer such questions, or not to this client",
        _ => "",
    };
    let what = format!(
        "the name server {backend} answers {code} about {}{why}",
        answer.name
    );
    Some(
        Diagnosis::new(Layer::Dns, "name-server-failed", what)
            .culprit(backend)
            .seen(format!("{} {} {code}", answer.name, answer.kind_name()))
            .look(case.dig(lookup)),
    )
}

/// No name of the search has an address, and this flow has the search's last answer.
pub(super) fn not_found(case: &Case<'_>) -> Option<Diagnosis> {
    let lookups = case.lookups();
    let (lookup, search) = lookups.iter().rev().find_map(|lookup| {
        let search = case.seen.lookups.search(case.flow, lookup)?;
        let last = lookup.noted == Some(search.last);
        (lookup.is_bad() && !search.found && last).then_some((lookup, search))
    })?;
    let answer = lookup.answer.as_ref()?;
    let asked = search.names.first()?;
    let (cause, what) = match (search.names.len(), answer.code) {
        (1, NXDOMAIN) => ("name-not-found", format!("there is no name {asked}")),
        (1, _) => (
            "name-without-address",
            format!("{asked} has no address of the kind that was asked for"),
        ),
        (count, _) => (
            "name-not-found",
            format!(
                "none of the {count} names of the search path has an address, from {asked} to {}",
                answer.name
            ),
        ),
    };
    let mut names: Vec<&str> = search.names.iter().map(String::as_str).collect();
    names.truncate(NAMES);
    // Of one kind of address alone, the other may be there.
    if cause == "name-without-address" && !case.asked_for_both(&answer.name) {
        return None;
    }
    let server = case.called();
    Some(
        Diagnosis::new(Layer::Dns, cause, what)
            .culprit(&answer.name)
            .seen(format!("{} from {server}", code_name(answer.code)))
            .seen(format!("asked for {}", names.join(", ")))
            .look(case.dig(lookup)),
    )
}

impl Case<'_> {
    fn lookups(&self) -> Vec<Lookup> {
        self.seen.lookups.of(self.flow)
    }

    /// Whether both kinds of addresses of a name were asked for in this flow.
    fn asked_for_both(&self, name: &str) -> bool {
        let lookups = self.lookups();
        let answers = lookups.iter().filter_map(|lookup| lookup.answer.as_ref());
        let mut kinds: Vec<u16> = answers
            .filter(|answer| answer.name == name && answer.is_of_addresses())
            .map(|answer| answer.kind)
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len() > 1
    }

    /// A question that is known to have got lost.
    fn lost_question(&self) -> Option<&Packet> {
        let mut losses = self.seen.evidence.losses(Direction::Original);
        losses.next().map(|loss| &loss.sample)
    }

    /// The command that asks again.
    fn dig(&self, lookup: &Lookup) -> String {
        let flow = self.flow;
        let question = lookup.answer.as_ref().map_or_else(
            || "kubernetes.default.svc.cluster.local".to_owned(),
            |answer| format!("{} {}", answer.name, answer.kind_name()),
        );
        let command = format!("dig @{} {question}", flow.destination.ip());
        match flow.client_netns {
            Some(netns) => self.command_in(netns, flow.first, &command),
            None => command,
        }
    }
}
