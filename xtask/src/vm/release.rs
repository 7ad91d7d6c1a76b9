//! Kernel series, and which of the packages that the index lists is the newest of one (pure).
//!
//! What counts is the upstream version, which is in the package's version: names such as
//! `linux-image-6.1.0-56-cloud-amd64` carry the ABI's number instead.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// What the names of kernel packages begin with.
const IMAGE: &str = "linux-image-";
/// What a kernel image may be split into: the kernel and its modules.
const PIECES: [&str; 2] = ["linux-binary-", "linux-modules-"];

/// Which kernel to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// The newest of a series, `6.1`, or a point release, `6.1.190`.
    Of(Vec<u32>),
    /// The newest there is.
    Newest,
}

impl Series {
    /// Those that are booted when none is named: of each kind of attach plan one, and today's.
    pub(crate) fn defaults() -> Vec<Self> {
        let mut defaults = Self::of_releases();
        defaults.push(Self::Newest);
        defaults
    }

    /// Those of Debian's releases, which stay what they are but for corrections.
    pub(crate) fn of_releases() -> Vec<Self> {
        [[5, 10], [6, 1], [6, 12]]
            .map(|of| Self::Of(of.to_vec()))
            .to_vec()
    }

    /// The releases of the series, newest first. A point release that is not there any more has
    /// those of its series.
    pub(crate) fn ranked<'a>(&self, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
        let of = |numbers: &[u32]| {
            let of = |candidate: &&Candidate| candidate.upstream.starts_with(numbers);
            candidates.iter().filter(of).collect::<Vec<_>>()
        };
        let mut found = match self {
            Self::Newest => of(&[]),
            Self::Of(numbers) => of(numbers),
        };
        if let (true, Self::Of(numbers)) = (found.is_empty(), self) {
            found = of(numbers.get(..2).unwrap_or_default());
        }
        found.sort_by_cached_key(|candidate| {
            Reverse((candidate.upstream.clone(), natural(&candidate.release)))
        });
        found
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.pad("newest"),
            Self::Of(numbers) => f.pad(&dotted(numbers)),
        }
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word == "newest" {
            return Ok(Self::Newest);
        }
        let numbers: Result<Vec<u32>, _> = word.split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) if numbers.len() >= 2 => Ok(Self::Of(numbers)),
            _ => Err("give a series such as 6.1, a point release, or `newest`".to_owned()),
        }
    }
}

/// A kernel in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What `uname -r` says on it.
    pub(crate) release: String,
    /// The upstream version: 6, 1, 192.
    pub(crate) upstream: Vec<u32>,
    /// The Debian version.
    pub(crate) version: String,
    /// The packages that it is in.
    pub(crate) packages: Vec<String>,
}

impl Candidate {
    /// The upstream version, `6.1.192`.
    pub(crate) fn upstream(&self) -> String {
        dotted(&self.upstream)
    }
}

/// The kernels in what `apt-cache show` prints of their packages.
///
/// # Errors
/// When a stanza lacks what every package has.
pub(crate) fn candidates(stanzas: &str) -> anyhow::Result<Vec<Candidate>> {
    let stanzas = stanzas.split("\n\n").map(str::trim);
    stanzas
        .filter(|stanza| !stanza.is_empty())
        .map(candidate)
        .collect()
}

fn candidate(stanza: &str) -> anyhow::Result<Candidate> {
    let field = |name: &str| {
        let mut lines = stanza.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let package = field("Package").context("a package without a name in apt's index")?;
    let version = field("Version").context("a package without a version in apt's index")?;
    let Some(release) = package.strip_prefix(IMAGE) else {
        bail!("{package} is not a kernel");
    };
    let depends = field("Depends").unwrap_or_default().split(", ");
    let mut packages: Vec<String> = depends
        .filter_map(|dependency| dependency.split(' ').next())
        .filter(|name| PIECES.iter().any(|piece| name.starts_with(piece)))
        .map(str::to_owned)
        .collect();
    if packages.is_empty() {
        packages.push(package.to_owned());
    }
    Ok(Candidate {
        release: release.to_owned(),
        upstream: upstream(version),
        version: version.to_owned(),
        packages,
    })
}

/// The numbers that a version begins with.
fn upstream(version: &str) -> Vec<u32> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    let numbers = version[..end.unwrap_or(version.len())].split('.');
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// A key that orders names as a person would: runs of digits by their value.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[..digits].parse().unwrap_or_default();
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        key.push((number, rest[..letters].to_owned()));
        rest = &rest[letters..];
    }
    key
}

/// The numbers as one writes them: `6.1.192`.
pub(crate) fn dotted(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Package: linux-image-6.1.0-9-cloud-amd64
Version: 6.1.170-1
Depends: kmod, linux-base (>= 4.3~)

Package: linux-image-6.1.0-10-cloud-amd64
Version: 6.1.170-1
Depends: kmod

Package: linux-image-6.1.0-0.deb11.52-cloud-amd64
Version: 6.1.99-2~deb11u1
Depends: kmod

Package: linux-image-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Depends: dracut | initramfs-tools, linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)

Package: linux-image-6.12.117+deb13-cloud-amd64
Version: 6.12.117-1
";

    fn chosen(series: &str) -> Option<String> {
        let series: Series = series.parse().unwrap();
        let candidates = candidates(STANZAS).unwrap();
        Some(series.ranked(&candidates).first()?.release.clone())
    }

    #[test]
    fn the_newest_of_a_series_is_taken() {
        assert_eq!(chosen("6.1").unwrap(), "6.1.0-10-cloud-amd64");
        assert_eq!(chosen("6.12").unwrap(), "6.12.117+deb13-cloud-amd64");
        assert_eq!(chosen("newest").unwrap(), "7.2.13+deb14-cloud-amd64");
    }

    #[test]
    fn a_point_release_is_taken_or_replaced_by_the_newest_of_its_series() {
        assert_eq!(chosen("6.1.99").unwrap(), "6.1.0-0.deb11.52-cloud-amd64");
        assert_eq!(chosen("6.1.98").unwrap(), "6.1.0-10-cloud-amd64");
        assert_eq!(chosen("5.10"), None);
    }

    #[test]
    fn a_split_kernel_has_its_pieces() {
        let candidates = candidates(STANZAS).unwrap();
        let split = candidates.iter().find(|it| it.upstream == [7, 2, 13]);
        assert_eq!(
            split.unwrap().packages,
            [
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-modules-7.2.13+deb14-cloud-amd64"
            ]
        );
        let whole = candidates.iter().find(|it| it.upstream == [6, 12, 117]);
        assert_eq!(
            whole.unwrap().packages,
            ["linux-image-6.12.117+deb13-cloud-amd64"]
        );
    }

    #[test]
    fn words_that_are_no_series_are_refused() {
        assert!("6".parse::<Series>().is_err());
        assert!("six".parse::<Series>().is_err());
        assert_eq!("6.1".parse::<Series>().unwrap().to_string(), "6.1");
    }
}
