//! What flat means.
//!
//! The first quarter of the time is for growing into the bounds that everything has. Of the rest, the
//! last third is compared with the first third:
//!
//! - **memory** (resident): the median may be higher by a twentieth and 4 MiB;
//! - **descriptors**: the most may be higher by 4, for what comes and goes just then;
//! - **lost events**: none, at any time.

use std::fmt;

use anyhow::{Context as _, ensure};

/// So many samples tell thirds apart.
const LEAST: usize = 12;
/// What memory may grow by, beside a twentieth, in KiB.
const MEMORY: u64 = 4 << 10;
/// What descriptors may grow by.
const DESCRIPTORS: u64 = 4;

/// What was seen of a process at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Resident, in KiB.
    pub(crate) memory: u64,
    /// How many it has open.
    pub(crate) descriptors: u64,
}

/// How a process that stayed as it was did so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flat {
    memory: [u64; 2],
    descriptors: [u64; 2],
}

impl fmt::Display for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([before, after], [few, many]) = (self.memory, self.descriptors);
        write!(
            f,
            "flat: memory {before} KiB, later {after} KiB; at most {few} descriptors, later {many}; \
             no event lost"
        )
    }
}

/// Whether the samples are flat.
///
/// # Errors
/// When they are not, or too few to tell.
pub(crate) fn judge(samples: &[Sample], lost: u64) -> anyhow::Result<Flat> {
    let settled = samples.get(samples.len() / 4..).unwrap_or_default();
    ensure!(
        settled.len() >= LEAST,
        "too short to tell: {} samples after the first quarter, of at least {LEAST}",
        settled.len()
    );
    let third = settled.len() / 3;
    let parts = [&settled[..third], &settled[settled.len() - third..]];
    let memory = parts.map(|part| median(part.iter().map(|sample| sample.memory)));
    let descriptors = parts.map(|part| part.iter().map(|sample| sample.descriptors).max());
    let ([Some(before), Some(after)], [Some(few), Some(many)]) = (memory, descriptors) else {
        return None.context("no samples");
    };
    ensure!(
        after <= before + before / 20 + MEMORY,
        "memory grows: {before} KiB, later {after} KiB"
    );
    ensure!(
        many <= few + DESCRIPTORS,
        "descriptors grow: {few}, later {many}"
    );
    ensure!(lost == 0, "{lost} events were lost");
    Ok(Flat {
        memory: [before, after],
        descriptors: [few, many],
    })
}

fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(u64) -> (u64, u64)) -> Vec<Sample> {
        (0..40)
            .map(of)
            .map(|(memory, descriptors)| Sample {
                memory,
                descriptors,
            })
            .collect()
    }

    #[test]
    fn growing_in_the_beginning_is_flat() {
        let settles = samples(|at| (50_000 + 10_000 * at.min(9), 60 + at % 4));
        assert!(judge(&settles, 0).is_ok());
    }

    #[test]
    fn a_leak_is_not() {
        let error = |samples: &[Sample]| judge(samples, 0).unwrap_err().to_string();
        let memory = samples(|at| (50_000 + 1_000 * at, 60));
        assert!(error(&memory).starts_with("memory grows"));
        let descriptors = samples(|at| (50_000, 60 + at));
        assert!(error(&descriptors).starts_with("descriptors grow"));
    }

    #[test]
    fn one_lost_event_is_too_many() {
        let flat = samples(|_| (50_000, 60));
        assert!(judge(&flat, 0).is_ok());
        assert!(judge(&flat, 1).is_err());
    }

    #[test]
    fn few_samples_tell_nothing() {
        assert!(judge(&samples(|_| (1, 1))[..14], 0).is_err());
        assert!(judge(&[], 0).is_err());
    }
}
