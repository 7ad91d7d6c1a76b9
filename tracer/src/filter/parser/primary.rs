//! One operand with its qualifiers: `tcp dst port 80`, `src 10.0.0.1`, `netns web`, `udp`.

use std::ops::Range;

use super::{Nested, Parser};
use crate::filter::{
    error::{Problem, shown},
    expression::{Direction, Expression, Network, Test, Version},
    lexer::Kind,
    operand,
    service::ServiceTest,
    words::{self, Word},
};

/// The words before an operand, which the operands after it inherit.
#[derive(Clone, Debug)]
pub(super) struct Qualifier {
    /// `tcp`, `ip6`, ..
    prefix: Option<Test>,
    ends: Ends,
    what: What,
}

/// Which ends of the packet the operand is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Unsaid,
    Source,
    Destination,
    /// `src or dst`
    Either,
    /// `src and dst`
    Both,
}

/// What the operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// No word says which.
    HostOrNet,
    Host,
    Net,
    Port,
    PortRange,
    Protocol,
    Netns,
    Device,
    Pod,
    Service,
}

impl What {
    fn of(word: Word) -> Option<Self> {
        Some(match word {
            Word::Host => Self::Host,
            Word::Net => Self::Net,
            Word::Port => Self::Port,
            Word::PortRange => Self::PortRange,
            Word::Proto => Self::Protocol,
            Word::Netns => Self::Netns,
            Word::Device => Self::Device,
            Word::Pod => Self::Pod,
            Word::Service => Self::Service,
            _ => return None,
        })
    }

    const fn is_name(self) -> bool {
        matches!(self, Self::Netns | Self::Device | Self::Pod | Self::Service)
    }

    /// Whether it is at one end of a packet.
    const fn has_ends(self) -> bool {
        !matches!(
            self,
            Self::Netns | Self::Device | Self::Protocol | Self::Service
        )
    }

    const fn is_port(self) -> bool {
        matches!(self, Self::Port | Self::PortRange)
    }

    /// The word that says so.
    const fn word(self) -> &'static str {
        match self {
            Self::HostOrNet => "",
            Self::Host => "host",
            Self::Net => "net",
            Self::Port => "port",
            Self::PortRange => "portrange",
            Self::Protocol => "proto",
            Self::Netns => "netns",
            Self::Device => "dev",
            Self::Pod => "pod",
            Self::Service => "service",
        }
    }

    /// What has to follow, as a sentence says it.
    const fn needed(self) -> &'static str {
        match self {
            Self::HostOrNet | Self::Host => "an address is missing, as in `host 10.0.0.1`",
            Self::Net => "a network is missing, as in `net 10.96.0.0/12`",
            Self::Port => "a port is missing, as in `port 80`",
            Self::PortRange => "a range of ports is missing, as in `portrange 8000-8080`",
            Self::Protocol => "a protocol is missing, as in `proto tcp`",
            Self::Netns => {
                "the name of a namespace is missing, as in `netns web`; if it is called as an \
                 operator is, put it in quotes"
            }
            Self::Device => {
                "the name of a device is missing, as in `dev eth0`; if it is called as an \
                 operator is, put it in quotes"
            }
            Self::Pod => {
                "the name of a pod is missing, as in `pod default/web`; if it is called as an \
                 operator is, put it in quotes"
            }
            Self::Service => {
                "the name of a Service is missing, as in `service default/web`; if it is called as \
                 an operator is, put it in quotes"
            }
        }
    }
}

const UNQUALIFIED: Qualifier = Qualifier {
    prefix: None,
    ends: Ends::Unsaid,
    what: What::HostOrNet,
};

impl Parser<'_> {
    /// The words before an operand and the operand; a protocol alone; an operand alone.
    pub(super) fn primary(&mut self) -> Result<Nested, Problem> {
        let prefix = match self.word_at(0).and_then(words::word) {
            None => return self.bare(),
            Some(Word::Protocol(number)) => Some(Test::Protocol(number)),
            Some(Word::Ip) => Some(Test::Version(Version::V4)),
            Some(Word::Ip6) => Some(Test::Version(Version::V6)),
            Some(Word::Dropped) => return Ok(self.alone(Test::Dropped)),
            Some(_) => None,
        };
        if let Some(test) = &prefix {
            self.at += 1;
            let qualifies = !matches!(
                self.word_at(0).and_then(words::word),
                None | Some(
                    Word::Protocol(_)
                        | Word::Ip
                        | Word::Ip6
                        | Word::Netns
                        | Word::Device
                        | Word::Dropped
                )
            );
            if !qualifies {
                self.at -= 1;
                return Ok(self.alone(test.clone()));
            }
        }
        let qualifier = self.qualifier(prefix)?;
        self.value(&qualifier)
    }

    /// A word that is a test by itself.
    fn alone(&mut self, test: Test) -> Nested {
        self.at += 1;
        self.inherited = None;
        Nested::leaf(Expression::Test(test))
    }

    fn qualifier(&mut self, prefix: Option<Test>) -> Result<Qualifier, Problem> {
        let ends = self.ends();
        let word = self.word_at(0).and_then(words::word);
        let what = word.and_then(What::of);
        let qualifier = Qualifier {
            prefix,
            ends,
            what: what.unwrap_or(What::HostOrNet),
        };
        if what.is_some() {
            let span = self.peek().map_or(0..0, |token| token.span.clone());
            qualifier.check(&span)?;
            self.at += 1;
        }
        Ok(qualifier)
    }

    /// `src`, `dst`, `src or dst`, `src and dst`, the last two either way round.
    fn ends(&mut self) -> Ends {
        let first = self.word_at(0).and_then(words::word);
        let (ends, other) = match first {
            Some(Word::Source) => (Ends::Source, Word::Destination),
            Some(Word::Destination) => (Ends::Destination, Word::Source),
            _ => return Ends::Unsaid,
        };
        self.at += 1;
        if self.word_at(1).and_then(words::word) != Some(other) {
            return ends;
        }
        let both = match self.peek().map(|token| &token.kind) {
            Some(Kind::Or) => Ends::Either,
            Some(Kind::And) => Ends::Both,
            _ => return ends,
        };
        self.at += 2;
        both
    }

    /// An operand, or several in parentheses, after its qualifiers.
    fn value(&mut self, qualifier: &Qualifier) -> Result<Nested, Problem> {
        let value = match self.peek_cloned() {
            Some((Kind::Word | Kind::Quoted(_), _)) => self.operand(qualifier),
            Some((Kind::Open | Kind::Not, _)) => self.term(Some(qualifier)),
            Some((Kind::Close | Kind::And | Kind::Or, span)) => {
                Err(Problem::new(span, qualifier.what.needed()))
            }
            None => {
                let end = self.text.trim_end().len();
                Err(Problem::new(end..end, qualifier.what.needed()))
            }
        }?;
        self.inherited = Some(qualifier.clone());
        Ok(value)
    }

    /// An operand without words before it: it has those of the operand before it, or is a host or
    /// network.
    fn bare(&mut self) -> Result<Nested, Problem> {
        let qualifier = self.inherited.clone().unwrap_or(UNQUALIFIED);
        let Some((kind, span)) = self.peek_cloned() else {
            return Err(self.nothing_follows());
        };
        let word = &self.text[span.clone()];
        if let Some(message) = qualifier.no_name(word) {
            return Err(Problem::new(span, message));
        }
        self.value(&qualifier).map_err(|problem| {
            if kind != Kind::Word {
                return problem;
            }
            words::instead_of(word).map_or(problem, |message| Problem::new(span, message))
        })
    }

    /// The word that stands here as the qualifiers' operand.
    pub(super) fn operand(&mut self, qualifier: &Qualifier) -> Result<Nested, Problem> {
        let Some((kind, span)) = self.peek_cloned() else {
            return Err(self.nothing_follows());
        };
        let text = match &kind {
            Kind::Quoted(name) if qualifier.what.is_name() => name.as_str(),
            Kind::Quoted(_) => {
                let message = "only names after `netns`, `dev`, `pod` and `service` stand in quotes; remove \
                     them";
                return Err(Problem::new(span, message));
            }
            _ => &self.text[span.clone()],
        };
        if kind == Kind::Word
            && let Some(message) = qualifier.misplaced(text)
        {
            return Err(Problem::new(span, message));
        }
        let expression = qualifier
            .test(text)
            .map_err(|message| Problem::new(span, message))?;
        self.at += 1;
        Ok(Nested::leaf(expression))
    }
}

impl Qualifier {
    /// Whether the words go together.
    fn check(&self, span: &Range<usize>) -> Result<(), Problem> {
        let fail = |message: String| Err(Problem::new(span.clone(), message));
        if self.ends != Ends::Unsaid && !self.what.has_ends() {
            return fail(
                "`src` and `dst` go with addresses, ports and pods only; remove them".to_owned(),
            );
        }
        match &self.prefix {
            Some(prefix @ Test::Protocol(words::ICMP | words::ICMP6)) if self.what.is_port() => {
                fail(format!(
                    "{prefix} has no ports; write `{prefix}` alone, or tcp, udp or sctp before the \
                     port"
                ))
            }
            Some(prefix @ Test::Protocol(_)) if self.what == What::Protocol => fail(format!(
                "`{prefix}` is the protocol already; remove one of both"
            )),
            _ => Ok(()),
        }
    }

    /// What to say when an operand would be a name by inheritance and hardly is meant so.
    fn no_name(&self, text: &str) -> Option<String> {
        if !self.what.is_name() {
            return None;
        }
        let word = if operand::host_or_net(text).is_ok() {
            "host"
        } else if operand::port(text).is_ok() {
            "port"
        } else {
            return None;
        };
        Some(format!(
            "after `{name}`, {} without a word would be one more name; write `{word} {text}`, or \
             `{name} {text}`",
            shown(text),
            name = self.what.word(),
        ))
    }

    /// What to say when a word of the language stands where the operand must.
    fn misplaced(&self, text: &str) -> Option<String> {
        if self.what.is_name() {
            return None;
        }
        let Some(word) = words::word(text) else {
            return words::comparison(text);
        };
        if self.what == What::Protocol && matches!(word, Word::Protocol(_)) {
            return None;
        }
        let earlier = match word {
            Word::Protocol(_) | Word::Ip | Word::Ip6 => self.prefix.is_none(),
            Word::Source | Word::Destination => self.ends == Ends::Unsaid,
            _ => false,
        };
        Some(if earlier {
            format!(
                "`{text}` stands too late; write `{} ..`",
                self.words_with(text, word)
            )
        } else {
            format!("{}; `{text}` stands there", self.what.needed())
        })
    }

    /// The qualifiers' words and one more, in their order.
    fn words_with(&self, text: &str, word: Word) -> String {
        let prefix = self.prefix.as_ref().map(Test::to_string);
        let ends = match self.ends {
            Ends::Source => "src",
            Ends::Destination => "dst",
            Ends::Unsaid | Ends::Either | Ends::Both => "",
        };
        let what = self.what.word();
        let prefix = prefix.as_deref().unwrap_or_default();
        let words = if matches!(word, Word::Source | Word::Destination) {
            [prefix, text, what]
        } else {
            [text, ends, what]
        };
        let said: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        said.join(" ")
    }

    /// The test that the operand makes of the qualifiers.
    fn test(&self, text: &str) -> Result<Expression, String> {
        let expression = match self.what {
            What::HostOrNet => self.address(operand::host_or_net(text)?)?,
            What::Host => self.address(operand::host(text)?)?,
            What::Net => self.address(operand::net(text)?)?,
            What::Port => {
                let port = operand::port(text)?;
                self.ports(port, port)
            }
            What::PortRange => {
                let (low, high) = operand::port_range(text)?;
                self.ports(low, high)
            }
            What::Protocol => Expression::Test(Test::Protocol(operand::protocol(text)?)),
            What::Netns => Expression::Test(Test::Netns(operand::netns(text)?)),
            What::Device => Expression::Test(Test::Device(operand::device(text)?)),
            What::Pod => {
                let name = operand::pod(text)?;
                self.at_ends(|direction| Test::Pod(direction, name.clone()))
            }
            What::Service => Expression::Test(Test::Service(ServiceTest::parse(text)?)),
        };
        Ok(match &self.prefix {
            Some(prefix) => Expression::Test(prefix.clone()).and(expression),
            None => expression,
        })
    }

    fn address(&self, network: Network) -> Result<Expression, String> {
        if let Some(Test::Version(asked)) = self.prefix
            && asked != network.version()
        {
            return Err(format!(
                "this address is {}, but the word before it asks for {asked}; change one of both",
                network.version()
            ));
        }
        Ok(self.at_ends(|direction| Test::Address(direction, network)))
    }

    fn ports(&self, low: u16, high: u16) -> Expression {
        self.at_ends(|direction| Test::Port {
            direction,
            low,
            high,
        })
    }

    fn at_ends(&self, test: impl Fn(Direction) -> Test) -> Expression {
        let test = |direction| Expression::Test(test(direction));
        match self.ends {
            Ends::Unsaid | Ends::Either => test(Direction::Either),
            Ends::Source => test(Direction::Source),
            Ends::Destination => test(Direction::Destination),
            Ends::Both => test(Direction::Source).and(test(Direction::Destination)),
        }
    }
}
