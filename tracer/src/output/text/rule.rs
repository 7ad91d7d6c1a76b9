//! A rule's line: below a translation or a drop, which rules did it.
//!
//! ```text
//! by KUBE-SERVICES > KUBE-SVC-6IM33.. > KUBE-SEP-T3KWD.. (service default/nginx-service:http, endpoint 1 of 2)
//! by filter FORWARD rule 3: -A FORWARD -p tcp --dport 81 -j DROP
//! by one of: filter FORWARD rule 1: -A .. (limit depends on the packets before); filter FORWARD policy
//! ```

use super::{
    glyphs::Page,
    line::{Piece, Style},
};
use crate::{
    node::rules::path::{Place, ServiceChoice, Step},
    report::{Candidate, RuleReport},
};

/// Candidates that are shown.
const CANDIDATES: usize = 4;

/// The rules of a translation.
pub(super) fn translation(page: &Page, report: &RuleReport) -> Vec<Piece> {
    pieces(page, report, Style::Translation, chains)
}

/// The rules of a drop.
pub(super) fn drop(page: &Page, report: &RuleReport) -> Vec<Piece> {
    pieces(page, report, Style::Problem, whole)
}

/// The words for a way through the rules, in pieces that stay together on a line.
type Words = fn(&Page, &[Step]) -> Vec<String>;

fn pieces(page: &Page, report: &RuleReport, style: Style, words: Words) -> Vec<Piece> {
    let mut texts = match &report.candidates[..] {
        [] => introduced("by", words(page, &report.path)),
        [sole] if report.more == 0 => {
            let mut texts = introduced("perhaps by", words(page, &sole.path));
            texts.extend(undecided(page, sole));
            texts
        }
        // The ways differ by a rule that leads on, and end at the same one.
        _ if !report.path.is_empty() => introduced("by", words(page, &report.path)),
        several => one_of(page, several, report.more, words),
    };
    if let Some(choice) = &report.service {
        texts.push(page.name(&service(choice)));
    }
    texts
        .into_iter()
        .map(|text| Piece::on(style, text))
        .collect()
}

fn introduced(word: &str, mut words: Vec<String>) -> Vec<String> {
    if let Some(first) = words.first_mut() {
        *first = format!("{word} {first}");
    }
    words
}

fn one_of(page: &Page, candidates: &[Candidate], more: usize, words: Words) -> Vec<String> {
    let mut texts = vec!["by one of:".to_owned()];
    for candidate in candidates.iter().take(CANDIDATES) {
        texts.extend(words(page, &candidate.path));
        texts.extend(undecided(page, candidate));
        if let Some(last) = texts.last_mut() {
            last.push(';');
        }
    }
    match candidates.len().saturating_sub(CANDIDATES) + more {
        0 => {}
        more => texts.push(format!("and {more} more")),
    }
    texts
}

/// `(limit depends on the packets before)`.
fn undecided(page: &Page, candidate: &Candidate) -> Option<String> {
    let why = candidate.undecided.join("; ");
    (!why.is_empty()).then(|| page.name(&format!("({why})")))
}

/// `(service default/nginx-service:http, endpoint 1 of 2)`.
fn service(choice: &ServiceChoice) -> String {
    let name = &choice.service;
    match choice.endpoint {
        Some((index, of)) => format!("(service {name}, endpoint {index} of {of})"),
        None => format!("(service {name})"),
    }
}

/// `KUBE-SERVICES > KUBE-SVC-.. > KUBE-SEP-..`; where there is one chain only, its rule.
fn chains(page: &Page, path: &[Step]) -> Vec<String> {
    // The first chain is the hook's.
    let beyond = path.get(1..).filter(|rest| !rest.is_empty());
    let Some(beyond) = beyond else {
        return vec![place(page, path)];
    };
    let mut chains: Vec<&str> = beyond.iter().map(|step| step.chain.as_str()).collect();
    chains.dedup();
    let last = chains.len() - 1;
    let mut words: Vec<String> = chains
        .iter()
        .enumerate()
        .map(|(at, chain)| page.name(chain) + if at < last { " >" } else { "" })
        .collect();
    if let [_, sole] = path
        && let Some(word) = words.last_mut()
    {
        word.push_str(&number(page, sole));
    }
    words
}

/// `filter FORWARD > KUBE-SERVICES rule 1: -A KUBE-SERVICES ...`.
fn whole(page: &Page, path: &[Step]) -> Vec<String> {
    let place = place(page, path);
    match path.last() {
        Some(last) if matches!(last.place, Place::Rule { .. }) => {
            vec![format!("{place}:"), page.name(&last.text)]
        }
        _ => vec![place],
    }
}

/// `filter FORWARD > KUBE-SERVICES rule 1`.
fn place(page: &Page, path: &[Step]) -> String {
    let Some(last) = path.last() else {
        return "a rule that is not known".to_owned();
    };
    let mut chains: Vec<&str> = path.iter().map(|step| step.chain.as_str()).collect();
    chains.dedup();
    let table = match last.place {
        Place::Entry => last.source.as_str(),
        _ => &last.table,
    };
    let text = page.name(&format!("{table} {}", chains.join(" > ")));
    format!("{text}{}", number(page, last))
}

/// ` rule 3`, ` rule 3 (handle 17)`, ` policy`.
fn number(page: &Page, step: &Step) -> String {
    match step.place {
        Place::Rule {
            number,
            handle: Some(handle),
        } => format!(" rule {number} (handle {handle})"),
        Place::Rule { number, .. } => format!(" rule {number}"),
        Place::Policy => " policy".to_owned(),
        Place::Element => " element".to_owned(),
        Place::Entry => format!(" {}", page.name(&step.text)),
    }
}
