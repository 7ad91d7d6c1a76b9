//! A program as text, one term a line: for the operator who wants to know what the kernel asks.

use std::{
    fmt::{self, Display, Formatter},
    net::Ipv6Addr,
};

use tracer_common::{
    address::{Address, to_bytes},
    filter::{
        ACCEPT, CGROUP, DEVICE, HOST_DESTINATION, HOST_EITHER, HOST_SOURCE, IP_VERSION, NETNS,
        PORT_DESTINATION, PORT_EITHER, PORT_SOURCE, PROTOCOL, Program, Term,
    },
};

use super::Compiled;
use crate::filter::expression::{Direction, Network, Test, Version};

impl Display for Compiled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            exact,
            relaxed,
        } = self;
        let Program {
            terms,
            count,
            negative,
            ..
        } = program;
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        writeln!(
            f,
            "{count} terms{}{}{}",
            if *exact { ", exact" } else { "" },
            if *relaxed { ", relaxed" } else { "" },
            if *negative == 0 {
                ""
            } else {
                ", a miss decides"
            },
        )?;
        for (index, term) in terms.iter().take(count).enumerate() {
            writeln!(
                f,
                "{index:2}  {} ? {} : {}",
                Listed(term),
                Jump(term.on_true),
                Jump(term.on_false)
            )?;
        }
        Ok(())
    }
}

struct Jump(u8);

impl Display for Jump {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match usize::from(self.0) {
            index if index < tracer_common::filter::MAX_TERMS => index.fmt(f),
            _ if self.0 == ACCEPT => f.write_str("accept"),
            _ => f.write_str("reject"),
        }
    }
}

struct Listed<'a>(&'a Term);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let term = self.0;
        let test = match term.kind {
            HOST_EITHER => address(Direction::Either, term),
            HOST_SOURCE => address(Direction::Source, term),
            HOST_DESTINATION => address(Direction::Destination, term),
            PORT_EITHER => Some(port(Direction::Either, term)),
            PORT_SOURCE => Some(port(Direction::Source, term)),
            PORT_DESTINATION => Some(port(Direction::Destination, term)),
            PROTOCOL => u8::try_from(term.low).ok().map(Test::Protocol),
            IP_VERSION if term.low == 4 => Some(Test::Version(Version::V4)),
            IP_VERSION => Some(Test::Version(Version::V6)),
            DEVICE => Some(Test::Device(name(term.value))),
            NETNS => return write!(f, "netns {}", term.number),
            CGROUP => return write!(f, "cgroup {}", term.value[0]),
            _ => None,
        };
        match test {
            Some(test) => test.fmt(f),
            None => f.write_str("never"),
        }
    }
}

fn address(direction: Direction, term: &Term) -> Option<Test> {
    let ip = Ipv6Addr::from(to_bytes(term.value));
    let length = u128::from_be_bytes(to_bytes(term.mask)).leading_ones();
    let network = Network::containing(ip.into(), u8::try_from(length).ok()?)?;
    Some(Test::Address(direction, network))
}

fn port(direction: Direction, term: &Term) -> Test {
    Test::Port {
        direction,
        low: term.low,
        high: term.high,
    }
}

fn name(value: Address) -> String {
    let bytes = to_bytes(value);
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
