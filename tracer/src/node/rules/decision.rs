//! Whether something holds, when not everything is known.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// Why something cannot be decided, for people: `statistic chooses at random`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Undecided(pub Cow<'static, str>);

impl Undecided {
    /// For a reason that is the same each time.
    #[must_use]
    pub const fn because(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// What is known does not say.
    Unknown(Undecided),
}

impl From<bool> for Decision {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Decision {
    /// Not known, for a reason that is the same each time.
    #[must_use]
    pub const fn unknown(reason: &'static str) -> Self {
        Self::Unknown(Undecided::because(reason))
    }

    /// What `test` says of a value, if that is known.
    #[must_use]
    pub fn of<T>(value: Option<T>, reason: &'static str, test: impl FnOnce(T) -> bool) -> Self {
        value.map_or(Self::unknown(reason), |value| test(value).into())
    }

    /// Both hold. The second is asked only where it matters; of two unknowns the first is named.
    #[must_use]
    pub fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => Self::No,
            Self::Yes => other(),
            Self::Unknown(why) => match other() {
                Self::No => Self::No,
                _ => Self::Unknown(why),
            },
        }
    }

    /// One of the two holds. The second is asked only where it matters.
    #[must_use]
    pub fn or(self, other: impl FnOnce() -> Self) -> Self {
        !(!self).and(|| !other())
    }

    /// As it is, or the opposite: for conditions with a `!` before them.
    #[must_use]
    pub fn inverted(self, inverted: bool) -> Self {
        if inverted { !self } else { self }
    }
}

impl std::ops::Not for Decision {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            unknown @ Self::Unknown(_) => unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Decision; 3] = [
        Decision::Yes,
        Decision::No,
        Decision::unknown("it is not known"),
    ];

    /// What a decision may turn out to be.
    fn possible(decision: &Decision) -> Vec<bool> {
        match decision {
            Decision::Yes => vec![true],
            Decision::No => vec![false],
            Decision::Unknown(_) => vec![true, false],
        }
    }

    fn combined(a: &Decision, b: &Decision, how: fn(bool, bool) -> bool) -> Vec<bool> {
        let mut all: Vec<bool> = possible(a)
            .into_iter()
            .flat_map(|a| possible(b).into_iter().map(move |b| how(a, b)))
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.dedup();
        all
    }

    #[test]
    fn combinations_may_be_what_their_parts_may_be() {
        for a in &ALL {
            for b in &ALL {
                let and = a.clone().and(|| b.clone());
                assert_eq!(
                    possible(&and),
                    combined(a, b, |a, b| a && b),
                    "{a:?} and {b:?}"
                );
                let or = a.clone().or(|| b.clone());
                assert_eq!(
                    possible(&or),
                    combined(a, b, |a, b| a || b),
                    "{a:?} or {b:?}"
                );
            }
            let not = a.clone().inverted(true);
            assert_eq!(possible(&!not), possible(a));
            assert_eq!(a.clone().inverted(false), *a);
        }
    }

    #[test]
    fn what_does_not_matter_is_not_asked() {
        assert_eq!(Decision::No.and(|| unreachable!()), Decision::No);
        assert_eq!(Decision::Yes.or(|| unreachable!()), Decision::Yes);
    }
}
