//! What a rule does with a packet for which its conditions hold.

use std::fmt;

use super::{
    super::outcome::NatRange,
    condition::Words,
    lexer::Word,
    read::kept,
    value::{Masked, decimal, nat_range, number, put_nat_range, put_span, span},
};

/// A rule's target. Displays as `iptables-save` prints it, without the `-j` or `-g`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name: a verdict, a chain, or an extension.
    pub name: Box<str>,
    /// What it is.
    pub kind: TargetKind,
    /// An extension's options.
    pub settings: Box<[Setting]>,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// `ACCEPT`, `DROP`, `RETURN`, `QUEUE` or an extension: the name tells.
    Named,
    /// `-j` to a chain of the table, by its number.
    Jump(u32),
    /// `-g` to a chain of the table.
    Goto(u32),
}

/// An option of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// DNAT: `--to-destination`
    ToDestination(NatRange),
    /// SNAT: `--to-source`
    ToSource(NatRange),
    /// MASQUERADE, REDIRECT: `--to-ports`
    ToPorts(u16, u16),
    /// REJECT: `--reject-with`
    RejectWith(Box<str>),
    /// MARK, CONNMARK: `--set-xmark`: clears the mask's bits, then inverts the value's.
    SetMark(Masked),
    /// CONNMARK: `--nfmask`
    PacketMask(u32),
    /// CONNMARK: `--ctmask`
    ConnectionMask(u32),
    /// Any other.
    Other(Words),
}

impl Setting {
    /// The setting that an option of a target is.
    pub(super) fn read(target: &str, name: &str, arguments: &[Word<'_>]) -> Self {
        let understood = match arguments {
            [one] if !one.quoted => Self::understood(target, name, &one.text),
            _ => None,
        };
        understood.unwrap_or_else(|| Self::Other(kept(name, arguments)))
    }

    fn understood(target: &str, name: &str, argument: &str) -> Option<Self> {
        Some(match (target, name) {
            ("DNAT", "--to-destination") => Self::ToDestination(nat_range(argument)?),
            ("SNAT", "--to-source") => Self::ToSource(nat_range(argument)?),
            ("MASQUERADE" | "REDIRECT", "--to-ports") => {
                let (first, last) = span(argument, decimal)?;
                Self::ToPorts(first, last)
            }
            ("REJECT", "--reject-with") => Self::RejectWith(argument.into()),
            ("MARK" | "CONNMARK", "--set-xmark") => Self::SetMark(Masked::parse(argument)?),
            ("MARK" | "CONNMARK", "--set-mark") => {
                let Masked { value, mask } = Masked::parse(argument)?;
                let mask = value | mask;
                Self::SetMark(Masked { value, mask })
            }
            ("MARK" | "CONNMARK", "--and-mark") => Self::SetMark(Masked {
                value: 0,
                mask: !number(argument)?,
            }),
            ("MARK" | "CONNMARK", "--or-mark") => Self::SetMark(Masked {
                value: number(argument)?,
                mask: number(argument)?,
            }),
            ("MARK" | "CONNMARK", "--xor-mark") => Self::SetMark(Masked {
                value: number(argument)?,
                mask: 0,
            }),
            ("CONNMARK", "--nfmask") => Self::PacketMask(number(argument)?),
            ("CONNMARK", "--ctmask") => Self::ConnectionMask(number(argument)?),
            _ => return None,
        })
    }

    /// Whether it is this option, without arguments that matter.
    pub(super) fn is(&self, option: &str) -> bool {
        matches!(self, Self::Other(words) if &*words.name == option)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for setting in &self.settings {
            write!(f, " {setting}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToDestination(range) => {
                f.write_str("--to-destination ")?;
                put_nat_range(f, range)
            }
            Self::ToSource(range) => {
                f.write_str("--to-source ")?;
                put_nat_range(f, range)
            }
            Self::ToPorts(first, last) => {
                f.write_str("--to-ports ")?;
                put_span(f, *first, *last)
            }
            Self::RejectWith(with) => write!(f, "--reject-with {with}"),
            // The mask is printed even where it is whole.
            Self::SetMark(Masked { value, mask }) => {
                write!(f, "--set-xmark {value:#x}/{mask:#x}")
            }
            Self::PacketMask(mask) => write!(f, "--nfmask {mask:#x}"),
            Self::ConnectionMask(mask) => write!(f, "--ctmask {mask:#x}"),
            Self::Other(words) => write!(f, "{words}"),
        }
    }
}
