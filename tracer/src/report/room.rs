//! How much memory reports take, for who keeps many of them.
//!
//! Estimated from what is of no fixed size; the allocator's own bytes are not counted.

use super::{
    Diagnosis, FlowReport, HopReport, PacketReport, Party, PlacedTranslation, TranslationReport,
    lookups::Lookup,
    rules::{Candidate, RuleReport},
};
use crate::node::rules::path::Step;

fn text(text: Option<&String>) -> usize {
    text.map_or(0, String::capacity)
}

fn texts(texts: &[String]) -> usize {
    let each = texts.iter().map(|it| size_of::<String>() + text(Some(it)));
    each.sum()
}

fn steps(path: &[Step]) -> usize {
    let texts = path.iter().map(|it| {
        it.table.capacity() + it.chain.capacity() + it.text.capacity() + text(it.comment.as_ref())
    });
    size_of_val(path) + texts.sum::<usize>()
}

fn rule(rule: Option<&RuleReport>) -> usize {
    let Some(rule) = rule else {
        return 0;
    };
    let candidates = rule.candidates.iter();
    let candidates =
        candidates.map(|it| size_of::<Candidate>() + steps(&it.path) + texts(&it.undecided));
    steps(&rule.path) + candidates.sum::<usize>()
}

fn translations(all: &[TranslationReport]) -> usize {
    let rules = all.iter().map(|it| rule(it.rule.as_ref()));
    size_of_val(all) + rules.sum::<usize>()
}

fn hop(hop: &HopReport) -> usize {
    let device = hop.device.as_ref();
    size_of::<HopReport>()
        + text(hop.netns.as_ref())
        + text(hop.pod.as_ref())
        + device.map_or(0, |it| it.name.capacity() + text(it.kind.as_ref()))
        + translations(&hop.translations)
}

fn party(party: &Party) -> usize {
    let process = party.process.as_ref();
    text(party.netns.as_ref())
        + text(party.pod.as_ref())
        + process.map_or(0, |it| it.comm.capacity())
}

fn lookup(lookup: &Lookup) -> usize {
    let answer = lookup.answer.as_ref();
    let answer = answer.map_or(0, |it| {
        it.name.capacity() + size_of_val(it.addresses.as_slice())
    });
    size_of::<Lookup>() + answer
}

fn diagnosis(diagnosis: &Diagnosis) -> usize {
    diagnosis.what.capacity()
        + text(diagnosis.culprit.as_ref())
        + text(diagnosis.look.as_ref())
        + texts(&diagnosis.evidence)
}

impl PacketReport {
    /// How many bytes of memory it takes, about.
    #[must_use]
    pub fn room(&self) -> usize {
        let drop = self.drop.as_ref().map_or(0, |drop| {
            text(drop.reason.as_ref())
                + text(drop.netns.as_ref())
                + text(drop.pod.as_ref())
                + text(drop.function.as_ref())
                + rule(drop.rule.as_ref())
        });
        let bytes = self.bytes.as_ref().map_or(0, |bytes| bytes.len());
        size_of::<Self>() + self.hops.iter().map(hop).sum::<usize>() + drop + bytes
    }
}

impl FlowReport {
    /// How many bytes of memory it takes, about.
    #[must_use]
    pub fn room(&self) -> usize {
        let translations = self.translations.iter().map(|placed| {
            size_of::<PlacedTranslation>()
                + rule(placed.translation.rule.as_ref())
                + text(placed.netns.as_ref())
        });
        let asked = self.asked.as_ref();
        let service = self.service.as_ref();
        size_of::<Self>()
            + party(&self.client)
            + self.backend.as_ref().map_or(0, party)
            + service.map_or(0, |it| it.to_string().len())
            + asked.map_or(0, |it| it.name.capacity() + texts(&it.tried))
            + self.lookups.iter().map(lookup).sum::<usize>()
            + translations.sum::<usize>()
            + self.diagnosis.as_ref().map_or(0, diagnosis)
    }
}
