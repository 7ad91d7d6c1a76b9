//! The notation of a packet's hops, and whether a packet's hops are those.

use std::fmt::{self, Write as _};

use anyhow::{Context as _, ensure};
use tracer_tests::trace::json::{Hop, Kind, Stage};

use super::paths::Way;

/// A hop as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Namespace and device: `node/cni0`.
    place: String,
    stage: Stage,
    translation: Option<Kind>,
    /// Whether only ways that see netfilter everywhere see it.
    everywhere: bool,
}

/// Reads the notation; see [`super::paths`].
///
/// # Errors
/// When it is not understood.
pub(crate) fn parse(notation: &str) -> anyhow::Result<Vec<Expected>> {
    let mut hops = Vec::new();
    for visit in notation.split(',').filter(|visit| !visit.is_empty()) {
        let mut words = visit.split_whitespace();
        let place = words.next().context("a place without a name")?;
        ensure!(place.contains('/'), "{place} is not NAMESPACE/DEVICE");
        for word in words {
            hops.push(hop(place, word).with_context(|| format!("in the hop {word:?}"))?);
        }
    }
    Ok(hops)
}

fn hop(place: &str, word: &str) -> anyhow::Result<Expected> {
    let inner = word.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let (stage, translation) = match inner.unwrap_or(word).split_once('(') {
        None => (inner.unwrap_or(word), None),
        Some((stage, kind)) => (stage, Some(kind.strip_suffix(')').context("no )")?)),
    };
    Ok(Expected {
        place: place.to_owned(),
        stage: match stage {
            "queue" | "transmit" | "receive" => contract(&format!("device.{stage}"))?,
            _ => contract(stage)?,
        },
        translation: translation.map(contract).transpose()?,
        everywhere: inner.is_some(),
    })
}

/// A word of the JSON contract.
fn contract<T: serde::de::DeserializeOwned>(word: &str) -> anyhow::Result<T> {
    Ok(serde_json::from_value(word.into())?)
}

/// The namespace where a packet of that notation comes to its end.
pub(crate) fn last_netns(notation: &str) -> Option<&str> {
    let last = notation.rsplit(',').next()?;
    Some(last.trim().split_once('/')?.0)
}

/// The stage that a packet is dropped at, where its hops end with a drop.
pub(crate) fn dropped_at(expected: &[Expected]) -> Option<Stage> {
    match expected {
        [.., before, drop] if drop.stage == Stage::Drop => Some(before.stage),
        _ => None,
    }
}

/// Whether the hops are as the way must show them, none missing, none more.
pub(crate) fn are(hops: &[Hop], expected: &[Expected], way: Way) -> bool {
    let seen = |expected: &&Expected| !expected.everywhere || way.everywhere();
    let mut expected = expected.iter().filter(seen);
    let same = |hop: &Hop| expected.next().is_some_and(|expected| expected.is(hop));
    hops.iter().all(same) && expected.next().is_none()
}

impl Expected {
    /// Whether it is of that stage.
    pub(crate) fn is_at(&self, stage: Stage) -> bool {
        self.stage == stage
    }

    fn is(&self, hop: &Hop) -> bool {
        let mut kinds = hop.translations.iter().map(|translation| translation.kind);
        self.place == place(hop)
            && self.stage == hop.stage
            && kinds.next() == self.translation
            && kinds.next().is_none()
    }
}

fn place(hop: &Hop) -> String {
    let (netns, device) = (hop.netns.as_deref(), hop.dev.as_deref());
    format!("{}/{}", netns.unwrap_or("?"), device.unwrap_or("?"))
}

/// The hops in the notation, with what is not of it in braces.
pub(crate) fn notation(hops: &[Hop]) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for hop in hops {
        let place = place(hop);
        if place != last {
            let separator = if last.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}{place}");
            last = place;
        }
        let _ = write!(text, " {}", word(hop.stage));
        for translation in &hop.translations {
            let _ = write!(text, "({})", word(translation.kind));
        }
        if let Some(hole) = &hop.hole {
            let stage = hole.stage.map(word).unwrap_or_default();
            let _ = write!(text, "{{hole: {} {stage}}}", hole.kind);
        }
    }
    text
}

/// The contract's word, without `device.`: what `Debug` has but for the dashes.
fn word(value: impl fmt::Debug) -> String {
    let mut word = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{made_up, paths};

    fn seen(stage: &str, kind: Option<&str>) -> Hop {
        let made = kind.map(|kind| made_up::translation(kind, "10.0.0.1:1", "10.0.0.2:2"));
        let hop = made_up::hop(stage, ("node", "cni0"), made.as_slice());
        serde_json::from_value(hop).unwrap()
    }

    #[test]
    fn every_path_is_understood() {
        for traced in paths::all() {
            for notation in [traced.case.original, traced.case.reply] {
                parse(notation).unwrap();
            }
        }
        for wrong in [
            "cni0 queue",
            "node/cni0 fly",
            "node/cni0 input(dnat",
            "node/cni0 input(x)",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hops_are_compared_one_by_one() {
        let expected = parse("node/cni0 [postrouting] queue prerouting(un-dnat)").unwrap();
        let [post, queue, translated] = [
            seen("postrouting", None),
            seen("device.queue", None),
            seen("prerouting", Some("un-dnat")),
        ];
        let whole = [post.clone(), queue.clone(), translated.clone()];
        assert!(are(&whole, &expected, Way::Best));
        assert!(!are(&whole[1..], &expected, Way::Best), "one is missing");
        assert!(are(&whole[1..], &expected, Way::Link), "as it must be");
        assert!(!are(&whole, &expected, Way::Link), "links are not there");
        assert!(
            !are(&whole[..2], &expected, Way::Best),
            "the last is missing"
        );
        let more = [post, queue.clone(), translated.clone(), translated];
        assert!(!are(&more, &expected, Way::Best), "nothing follows");
        let untranslated = [queue, seen("prerouting", None)];
        assert!(!are(&untranslated, &expected, Way::Link));
        assert_eq!(
            notation(&whole),
            "node/cni0 postrouting queue prerouting(un-dnat)"
        );
    }
}
