//! What rules do with a packet.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    decision::Undecided,
    path::{Certainty, RulePath},
    subject::Subject,
};

/// The addresses and ports that a translation may choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NatRange {
    /// First and last address; `None`: the address stays, or is chosen by the kernel.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// First and last port; `None`: the port stays where it can.
    pub ports: Option<(u16, u16)>,
}

impl NatRange {
    /// One address and, perhaps, one port.
    #[must_use]
    pub fn to(address: IpAddr, port: Option<u16>) -> Self {
        Self {
            addresses: Some((address, address)),
            ports: port.map(|port| (port, port)),
        }
    }

    /// Whether an end may have been rewritten to this one. Ports outside of a source translation's
    /// range are not excluded: the kernel takes another where the wanted one is in use.
    #[must_use]
    pub fn allows(&self, after: SocketAddr) -> bool {
        let ip = after.ip();
        let address = self.addresses.is_none_or(|(first, last)| {
            first.is_ipv4() == ip.is_ipv4() && (first..=last).contains(&ip)
        });
        let port = self
            .ports
            .is_none_or(|(first, last)| (first..=last).contains(&after.port()));
        address && port
    }
}

/// What became of a packet in one base chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes on.
    Accepted,
    /// It ends here, silently.
    Dropped,
    /// It ends here and the sender is told: `icmp-port-unreachable`, `tcp-reset`.
    Rejected(String),
    /// Its destination is rewritten.
    Dnat(NatRange),
    /// Its source is rewritten.
    Snat(NatRange),
    /// Its source is rewritten to an address of the device it leaves by.
    Masquerade(NatRange),
    /// Its destination is rewritten to this namespace itself.
    Redirect(NatRange),
    /// It is given to a process, which decides.
    Queued,
    /// Something else took it: a SYN proxy, a transparent proxy, a tee.
    Stolen(String),
}

impl Outcome {
    /// Whether the packet does not go on after it.
    #[must_use]
    pub const fn is_drop(&self) -> bool {
        matches!(self, Self::Dropped | Self::Rejected(_))
    }
}

/// What was seen to happen to the packet, which narrows down what the rules may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing was seen.
    Nothing,
    /// It went on.
    Passed,
    /// It ended in the hook.
    Dropped,
    /// Its destination became this.
    Destination(SocketAddr),
    /// Its source became this.
    Source(SocketAddr),
}

impl Observed {
    /// Whether an outcome may have led to what was seen.
    #[must_use]
    pub fn allows(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Nothing => true,
            Self::Passed => !outcome.is_drop(),
            // Who has the packet may drop it.
            Self::Dropped => {
                outcome.is_drop() || matches!(outcome, Outcome::Queued | Outcome::Stolen(_))
            }
            Self::Destination(after) => match outcome {
                Outcome::Dnat(range) | Outcome::Redirect(range) => range.allows(*after),
                _ => false,
            },
            Self::Source(after) => match outcome {
                Outcome::Snat(range) => range.allows(SocketAddr::new(
                    after.ip(),
                    range.ports.map_or(after.port(), |(first, _)| first),
                )),
                Outcome::Masquerade(_) => true,
                _ => false,
            },
        }
    }
}

/// Why something happened to a packet, as far as the rules say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The ways that lead to what was seen, with what the last rule of each did. One: that is what
    /// happened. Several: candidates. None: no rule did it.
    pub paths: Vec<(Outcome, RulePath)>,
    /// Candidates that were too many to be kept.
    pub more: usize,
    /// The evaluation was given up before its end because it took too many steps.
    pub given_up: bool,
    /// What is known of the packet behind the hook, if it went on and is the one that was seen: one
    /// for each destination that is possible.
    pub after: Vec<Subject>,
}

impl Explanation {
    /// Whether both name the same rules by their words, wherever these stand.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        fn words(all: &Explanation) -> impl Iterator<Item = (&str, &str)> {
            let steps = all.paths.iter().flat_map(|(_, path)| &path.steps);
            steps.map(|step| (step.chain.as_str(), step.text.as_str()))
        }
        self.paths.len() == other.paths.len() && words(self).eq(words(other))
    }

    /// What is to be said where either may be so: nothing is certain then.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        for (_, path) in &mut self.paths {
            if path.certainty == Certainty::Certain {
                let why = Undecided::because("the rules changed about that time");
                path.certainty = Certainty::Candidate(vec![why]);
            }
        }
        self.more += other.more;
        self.given_up |= other.given_up;
        self.after.extend(other.after);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_allows_its_ends_and_what_is_between() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let range = NatRange {
            addresses: Some((ip("10.0.0.9"), ip("10.0.0.11"))),
            ports: Some((80, 81)),
        };
        let allows = |text: &str| range.allows(text.parse().unwrap());
        assert!(allows("10.0.0.9:80") && allows("10.0.0.10:81") && allows("10.0.0.11:80"));
        assert!(!allows("10.0.0.8:80") && !allows("10.0.0.12:80") && !allows("10.0.0.9:82"));
        assert!(!allows("[::a00:9]:80"));
        let one = NatRange::to(ip("fd00::1"), None);
        assert!(one.allows("[fd00::1]:7".parse().unwrap()));
        assert!(!one.allows("[fd00::2]:7".parse().unwrap()));
    }

    #[test]
    fn what_was_seen_excludes_what_cannot_have_led_to_it() {
        let to = |text: &str| {
            let end: SocketAddr = text.parse().unwrap();
            NatRange::to(end.ip(), Some(end.port()))
        };
        let seen = Observed::Destination("10.0.0.1:80".parse().unwrap());
        assert!(seen.allows(&Outcome::Dnat(to("10.0.0.1:80"))));
        assert!(!seen.allows(&Outcome::Dnat(to("10.0.0.2:80"))));
        assert!(!seen.allows(&Outcome::Accepted));
        let source = Observed::Source("10.0.0.1:80".parse().unwrap());
        assert!(source.allows(&Outcome::Snat(to("10.0.0.1:70"))));
        assert!(!source.allows(&Outcome::Snat(to("10.0.0.3:80"))));
        assert!(source.allows(&Outcome::Masquerade(NatRange::default())));
        assert!(Observed::Dropped.allows(&Outcome::Rejected("tcp-reset".to_owned())));
        assert!(!Observed::Dropped.allows(&Outcome::Accepted));
        assert!(!Observed::Passed.allows(&Outcome::Dropped));
    }
}
