//! Everything that is judged of one machine, a row of the table each.

use anyhow::{Context as _, ensure};

use super::agreement;
use super::check::{self, Judgement};
use super::degradations::{self, Degradation};
use super::paths::{self, Case, Form, Traced, Way};
use super::results::{Results, Section, Walk};
use super::session::{Seen, Session};

/// A row: what was judged, and how it came out.
pub(crate) type Row = (String, Judgement);

/// Judges each path by every way that this kernel has, and whether the ways say the same.
pub(crate) fn of(paths: &[Traced], version: &[u32], results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut ways = Vec::new();
    for of_form in paths.chunk_by(|one, next| one.form == next.form) {
        let lab = Lab::new(of_form[0].form, version, results);
        rows.extend(of_form.iter().map(|traced| lab.path(traced)));
        ways.extend(lab.ways(of_form));
    }
    rows.extend(ways);
    rows
}

/// What the tracers said of the paths of one form.
pub(crate) struct Lab<'a> {
    form: Form,
    version: &'a [u32],
    results: &'a Results,
    sessions: Vec<(Way, anyhow::Result<Session>)>,
}

impl<'a> Lab<'a> {
    /// Reads what the tracers said that this kernel allows.
    pub(crate) fn new(form: Form, version: &'a [u32], results: &'a Results) -> Self {
        let there = |way: &&Way| degradations::refusal(**way, version).is_none();
        let read = |way: &Way| {
            let name = paths::session(form, *way);
            (*way, Session::read(results.section(&name)))
        };
        Self {
            form,
            version,
            results,
            sessions: Way::ALL.iter().filter(there).map(read).collect(),
        }
    }

    /// What the best way saw of a path.
    ///
    /// # Errors
    /// When it was not walked, or not seen as one flow.
    pub(crate) fn best(&self, traced: &Traced) -> anyhow::Result<Seen<'_>> {
        self.seen(traced, Way::Best).map(|(_, seen)| seen)
    }

    /// The row of a path: the worst of what the ways say.
    fn path(&self, traced: &Traced) -> Row {
        let mut lacking = Vec::new();
        let mut wrong = Vec::new();
        for (way, _) in &self.sessions {
            match self.by(traced, *way) {
                Judgement::Good { but, .. } if but.is_empty() => {}
                Judgement::Good { but, .. } => lacking = but,
                Judgement::Fail(why) => wrong.push(format!("{}: {why}", way.name())),
            }
        }
        let judgement = if wrong.is_empty() {
            Judgement::complete(lacking)
        } else {
            Judgement::Fail(wrong.join("\n  "))
        };
        (traced.to_string(), judgement)
    }

    fn by(&self, traced: &Traced, way: Way) -> Judgement {
        let case: &Case = traced.case;
        match self.seen(traced, way) {
            Ok((walk, seen)) => {
                let degradations = degradations::of(case, self.version);
                check::check(case, way, (walk, &seen), &degradations)
            }
            Err(error) => Judgement::Fail(format!("{error:#}")),
        }
    }

    fn seen(&self, traced: &Traced, way: Way) -> anyhow::Result<(&Walk, Seen<'_>)> {
        let walk = self.results.walk(&traced.to_string());
        let walk = walk.context("was not walked")?;
        let mut sessions = self.sessions.iter();
        let session = sessions.find(|(of, _)| *of == way);
        let (_, session) = session.context("this kernel lacks that way")?;
        match session {
            Ok(session) => Ok((walk, session.seen(walk)?)),
            // Said whole once, in the row of the way.
            Err(error) => Err(anyhow::anyhow!("{}", error.root_cause())),
        }
    }

    /// The rows of the ways: that the tracer worked by each, and said the same.
    fn ways(&self, paths: &[Traced]) -> Vec<Row> {
        let row = |way: &Way| {
            let name = format!("{}, {}", self.form, way.name());
            let judgement = match degradations::refusal(*way, self.version) {
                Some(degradation) => self.refused(*way, degradation),
                None => self.whole(*way, paths),
            };
            (name, judgement)
        };
        Way::ALL.iter().map(row).collect()
    }

    /// The tracer must say why it does not work that way, and trace nothing.
    fn refused(&self, way: Way, degradation: &'static Degradation) -> Judgement {
        let refused = |section: Option<&Section>| {
            let section = section.context("did not come to that")?;
            let status = section.status.context("the machine ended before")?;
            ensure!(status != 0, "exit status 0 without tracing");
            ensure!(section.output.is_empty(), "output without tracing");
            let reason = format!("--netfilter {} does not work here: ", way.word());
            let mut messages = section.messages.iter();
            let said = messages.any(|message| message.contains(&reason));
            ensure!(said, "the reason is not said: {:?}", section.messages);
            Ok(())
        };
        match refused(self.results.section(&paths::session(self.form, way))) {
            Ok(()) => Judgement::Good {
                word: "refused".to_owned(),
                but: vec![degradation.reason],
            },
            Err(error) => Judgement::Fail(format!("must be refused: {error:#}")),
        }
    }

    fn whole(&self, way: Way, paths: &[Traced]) -> Judgement {
        let session = self.sessions.iter().find(|(of, _)| *of == way);
        if let Some((_, Err(error))) = session {
            return Judgement::Fail(format!("{error:#}"));
        }
        let mut packets = 0;
        for traced in paths {
            match self.alike(traced, way) {
                Ok(alike) => packets += alike,
                Err(error) => return Judgement::Fail(format!("{traced}: {error:#}")),
            }
        }
        Judgement::Good {
            word: format!("{packets} packets"),
            but: degradations::differences(way),
        }
    }

    /// How many packets of a path the way saw: each as the best one saw it.
    fn alike(&self, traced: &Traced, way: Way) -> anyhow::Result<usize> {
        let best = self.best(traced)?;
        if way == Way::Best {
            return Ok(best.packets.len());
        }
        let (_, other) = self.seen(traced, way)?;
        agreement::check(&best, &other, way)
    }
}

#[cfg(test)]
mod tests;
