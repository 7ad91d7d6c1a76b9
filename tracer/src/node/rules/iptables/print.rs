//! Text out of tables, as `iptables-save` prints it.

use std::fmt;

use super::{
    Chain, Counters, Policy, Rule, Table, Tables,
    target::{Target, TargetKind},
};

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        lines(f, &self.ending)
    }
}

fn lines(f: &mut fmt::Formatter<'_>, lines: &[Box<str>]) -> fmt::Result {
    lines.iter().try_for_each(|line| writeln!(f, "{line}"))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, &self.heading)?;
        writeln!(f, "*{}", self.name)?;
        for chain in &self.chains {
            writeln!(f, "{}", chain.head())?;
        }
        for chain in &self.chains {
            for rule in &chain.rules {
                if let Some(counters) = rule.counters {
                    write!(f, "{counters} ")?;
                }
                writeln!(f, "{}", rule.in_chain(&chain.name))?;
            }
        }
        writeln!(f, "COMMIT")
    }
}

impl Chain {
    fn head(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            let policy = self.policy.map_or("-", Policy::as_str);
            write!(f, ":{} {policy}", self.name)?;
            self.counters
                .map_or(Ok(()), |counters| write!(f, " {counters}"))
        })
    }
}

impl Policy {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Drop => "DROP",
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}]", self.packets, self.bytes)
    }
}

impl Rule {
    /// The rule as a line, without counters: `-A CHAIN -s ... -j ...`.
    pub fn in_chain<'r>(&'r self, chain: &'r str) -> impl fmt::Display + 'r {
        fmt::from_fn(move |f| {
            write!(f, "-A {chain}")?;
            for condition in &self.conditions {
                write!(f, "{condition}")?;
            }
            self.target
                .as_ref()
                .map_or(Ok(()), |target| write!(f, " {} {target}", target.option()))
        })
    }
}

impl Target {
    /// The option that names it.
    const fn option(&self) -> &'static str {
        match self.kind {
            TargetKind::Goto(_) => "-g",
            TargetKind::Named | TargetKind::Jump(_) => "-j",
        }
    }
}
