//! Tables out of text.

use std::collections::{HashMap, HashSet};

use super::{
    Chain, Counters, ParseError, Policy, Refusal, Rule, Table, Tables,
    condition::{Condition, Test},
    lexer::{Word, words},
    protocol::Protocol,
    read,
    target::{Setting, Target, TargetKind},
    value::{Network, decimal},
};

/// Bytes of the longest text: some twenty times the rules of 5,000 Services.
pub(super) const LONGEST: usize = 128 << 20;
/// Characters of a refused word that are shown.
const SHOWN: usize = 80;

impl Tables {
    /// Takes the output of `iptables-save`, with or without counters.
    ///
    /// # Errors
    /// The first line that is none of such an output.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::default();
        let mut rest = text;
        while !rest.is_empty() {
            let line = parser.line;
            let after = parser
                .line(rest)
                .map_err(|refusal| ParseError { line, refusal })?;
            let taken = rest.len() - after.len();
            parser.line += rest.as_bytes()[..taken]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            rest = after;
        }
        let line = parser.line;
        parser
            .finish()
            .map_err(|refusal| ParseError { line, refusal })
    }
}

struct Parser {
    line: usize,
    tables: Vec<Table>,
    names: HashSet<Box<str>>,
    /// The table that has begun, with its chains by name.
    open: Option<(Table, HashMap<Box<str>, usize>)>,
    comments: Vec<Box<str>>,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            line: 1,
            tables: Vec::new(),
            names: HashSet::new(),
            open: None,
            comments: Vec::new(),
        }
    }
}

impl Parser {
    /// Takes a line, or several where a quote goes over them. Returns the rest.
    fn line<'t>(&mut self, text: &'t str) -> Result<&'t str, Refusal> {
        if text.len() > LONGEST {
            return Err(Refusal::TooMany);
        }
        if text.starts_with("-A ") || text.starts_with('[') {
            let (words, rest) = words(text).map_err(|_| Refusal::Quote)?;
            self.rule(&words)?;
            return Ok(rest);
        }
        let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() {
        } else if line.starts_with('#') {
            self.comments.push(line.into());
        } else if let Some(name) = line.strip_prefix('*') {
            self.begin(name.trim())?;
        } else if let Some(chain) = line.strip_prefix(':') {
            self.chain(chain)?;
        } else if line.trim() == "COMMIT" {
            let (mut table, _) = self.open.take().ok_or(Refusal::OutsideTable)?;
            resolve(&mut table)?;
            self.tables.push(table);
        } else {
            return Err(Refusal::Line(shown(line)));
        }
        Ok(rest)
    }

    fn finish(self) -> Result<Tables, Refusal> {
        match self.open {
            Some((table, _)) => Err(Refusal::Unfinished(shown(&table.name))),
            None => Ok(Tables {
                tables: self.tables,
                ending: self.comments,
            }),
        }
    }

    fn begin(&mut self, name: &str) -> Result<(), Refusal> {
        if let Some((open, _)) = &self.open {
            return Err(Refusal::Unfinished(shown(&open.name)));
        }
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Refusal::Chain(shown(name)));
        }
        if !self.names.insert(name.into()) {
            return Err(Refusal::Twice(shown(name)));
        }
        let table = Table {
            heading: std::mem::take(&mut self.comments),
            name: name.into(),
            chains: Vec::new(),
        };
        self.open = Some((table, HashMap::new()));
        Ok(())
    }

    /// `NAME POLICY [PACKETS:BYTES]`
    fn chain(&mut self, line: &str) -> Result<(), Refusal> {
        let (table, chains) = self.open.as_mut().ok_or(Refusal::OutsideTable)?;
        let refused = || Refusal::Chain(shown(line));
        let mut words = line.split_ascii_whitespace();
        let name = words.next().ok_or_else(refused)?;
        let policy = match words.next().ok_or_else(refused)? {
            "-" => None,
            "ACCEPT" => Some(Policy::Accept),
            "DROP" => Some(Policy::Drop),
            _ => return Err(refused()),
        };
        let counters = words.next().map(counters).transpose()?;
        if words.next().is_some() || name.contains('"') {
            return Err(refused());
        }
        if chains.insert(name.into(), table.chains.len()).is_some() {
            return Err(Refusal::Twice(shown(name)));
        }
        table.chains.push(Chain {
            name: name.into(),
            policy,
            counters,
            rules: Vec::new(),
        });
        Ok(())
    }

    /// `[PACKETS:BYTES] -A CHAIN ...`
    fn rule(&mut self, words: &[Word<'_>]) -> Result<(), Refusal> {
        let (table, chains) = self.open.as_mut().ok_or(Refusal::OutsideTable)?;
        let (counters, words) = match words {
            [first, rest @ ..] if first.text.starts_with('[') => {
                (Some(counters(&first.text)?), rest)
            }
            words => (None, words),
        };
        let (name, words) = match words {
            [append, name, rest @ ..] if append.text == "-A" => (&*name.text, rest),
            [first, ..] => return Err(Refusal::Line(shown(&first.text))),
            [] => return Err(Refusal::Argument("-A")),
        };
        let chain = chains
            .get(name)
            .and_then(|&index| table.chains.get_mut(index));
        let chain = chain.ok_or_else(|| Refusal::NoChain(shown(name)))?;
        let (conditions, target) = Options::default().read(words)?;
        chain.rules.push(Rule {
            counters,
            conditions: conditions.into(),
            target,
        });
        Ok(())
    }
}

/// `[PACKETS:BYTES]`
fn counters(text: &str) -> Result<Counters, Refusal> {
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let numbers = inside.and_then(|inside| inside.split_once(':'));
    let counters = numbers.and_then(|(packets, bytes)| {
        Some(Counters {
            packets: decimal(packets)?,
            bytes: decimal(bytes)?,
        })
    });
    counters.ok_or_else(|| Refusal::Counters(shown(text)))
}

/// Finds the chains among the targets.
fn resolve(table: &mut Table) -> Result<(), Refusal> {
    let mut numbers: HashMap<Box<str>, u32> = HashMap::new();
    for (index, chain) in table.chains.iter().enumerate() {
        let number = u32::try_from(index).map_err(|_| Refusal::TooMany)?;
        numbers.insert(chain.name.clone(), number);
    }
    let rules = table.chains.iter_mut().flat_map(|chain| &mut chain.rules);
    for target in rules.filter_map(|rule| rule.target.as_mut()) {
        match (numbers.get(&target.name), target.kind) {
            (Some(&number), TargetKind::Named) if !is_verdict(&target.name) => {
                target.kind = TargetKind::Jump(number);
            }
            (Some(&number), TargetKind::Goto(_)) => target.kind = TargetKind::Goto(number),
            (None, TargetKind::Goto(_)) => return Err(Refusal::NoChain(shown(&target.name))),
            _ => {}
        }
    }
    Ok(())
}

fn is_verdict(name: &str) -> bool {
    matches!(name, "ACCEPT" | "DROP" | "RETURN" | "QUEUE")
}

/// A rule's options, as they come.
#[derive(Default)]
struct Options {
    conditions: Vec<Condition>,
    /// The modules asked for, the latest last.
    modules: Vec<Box<str>>,
    protocol: Option<Box<str>>,
    target: Option<(Box<str>, TargetKind)>,
    settings: Vec<Setting>,
}

impl Options {
    fn read(mut self, mut words: &[Word<'_>]) -> Result<(Vec<Condition>, Option<Target>), Refusal> {
        while let [word, rest @ ..] = words {
            let (inverted, option, rest) = match rest {
                [next, rest @ ..] if is_inversion(word) => (true, next, rest),
                [] if is_inversion(word) => return Err(Refusal::Inversion),
                rest => (false, word, rest),
            };
            if !is_option(option) {
                return Err(Refusal::Word(shown(&option.text)));
            }
            let end = rest
                .iter()
                .position(|word| is_option(word) || is_inversion(word));
            let (arguments, after) = rest.split_at(end.unwrap_or(rest.len()));
            words = match self.basic(inverted, &option.text, arguments)? {
                Some(used) => rest.get(used..).unwrap_or_default(),
                None => {
                    self.extended(inverted, &option.text, arguments)?;
                    after
                }
            };
        }
        let settings = self.settings.into();
        let target = self.target.map(|(name, kind)| Target {
            name,
            kind,
            settings,
        });
        Ok((self.conditions, target))
    }

    /// Takes an option that every rule can have; returns how many arguments it used.
    fn basic(
        &mut self,
        inverted: bool,
        option: &str,
        arguments: &[Word<'_>],
    ) -> Result<Option<usize>, Refusal> {
        // `-m policy` has a `--proto` of its own, so the long names are everybody's only before.
        if option.starts_with("--") && (!self.modules.is_empty() || self.target.is_some()) {
            return Ok(None);
        }
        let argument = arguments.first().map(|word| &*word.text);
        let test = match option {
            "-s" | "--source" | "--src" => Test::Source(network("-s", argument)?),
            "-d" | "--destination" | "--dst" => Test::Destination(network("-d", argument)?),
            "-i" | "--in-interface" => Test::Input(device("-i", argument)?),
            "-o" | "--out-interface" => Test::Output(device("-o", argument)?),
            "-p" | "--protocol" | "--proto" => {
                let name = argument.ok_or(Refusal::Argument("-p"))?;
                let protocol = Protocol::parse(name).ok_or_else(|| value("-p", name))?;
                self.protocol = Some(name.to_ascii_lowercase().into());
                Test::Protocol(protocol)
            }
            "-f" | "--fragment" => {
                self.push(inverted, Test::Fragment);
                return Ok(Some(0));
            }
            "-m" | "--match" => {
                let name = argument.ok_or(Refusal::Argument("-m"))?;
                if inverted {
                    return Err(Refusal::Inversion);
                }
                self.modules.push(name.into());
                Test::Module(word("-m", name)?)
            }
            "-j" | "--jump" => return self.target(inverted, TargetKind::Named, argument),
            "-g" | "--goto" => return self.target(inverted, TargetKind::Goto(0), argument),
            _ => return Ok(None),
        };
        self.push(inverted, test);
        Ok(Some(1))
    }

    fn target(
        &mut self,
        inverted: bool,
        kind: TargetKind,
        name: Option<&str>,
    ) -> Result<Option<usize>, Refusal> {
        let name = name.ok_or(Refusal::Argument("-j"))?;
        if inverted || self.target.is_some() {
            return Err(Refusal::Word("-j".to_owned()));
        }
        self.target = Some((word("-j", name)?, kind));
        Ok(Some(1))
    }

    /// Takes an option of a module or of the target.
    fn extended(
        &mut self,
        inverted: bool,
        option: &str,
        arguments: &[Word<'_>],
    ) -> Result<(), Refusal> {
        if let Some((target, _)) = &self.target {
            if inverted {
                return Err(Refusal::Inversion);
            }
            let setting = Setting::read(target, option, arguments);
            self.settings.push(setting);
            return Ok(());
        }
        if self.modules.is_empty() {
            // `-p tcp --dport 80` asks for the protocol's module, which the tool prints.
            let module = self.protocol.clone();
            let module = module.ok_or_else(|| Refusal::Word(shown(option)))?;
            self.push(false, Test::Module(module.clone()));
            self.modules.push(module);
        }
        let module = self.modules.last().map_or("", |module| &**module);
        let test = read::option(module, option, arguments);
        self.push(inverted, test);
        Ok(())
    }

    fn push(&mut self, inverted: bool, test: Test) {
        self.conditions.push(Condition { inverted, test });
    }
}

fn is_inversion(word: &Word<'_>) -> bool {
    !word.quoted && word.text == "!"
}

/// Whether it looks like an option: `-m`, `--dport`, but not `-5`.
fn is_option(word: &Word<'_>) -> bool {
    let rest = word.text.strip_prefix('-').filter(|_| !word.quoted);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_ascii_alphabetic()))
}

fn network(option: &'static str, argument: Option<&str>) -> Result<Network, Refusal> {
    let text = argument.ok_or(Refusal::Argument(option))?;
    Network::parse(text).ok_or_else(|| value(option, text))
}

fn device(option: &'static str, argument: Option<&str>) -> Result<Box<str>, Refusal> {
    word(option, argument.ok_or(Refusal::Argument(option))?)
}

/// A name: it must be one word, since it is printed without quotes.
fn word(option: &'static str, name: &str) -> Result<Box<str>, Refusal> {
    let bad = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n' | '"');
    if name.is_empty() || name.contains(bad) || name == "!" || name.starts_with('-') {
        return Err(value(option, name));
    }
    Ok(name.into())
}

fn value(option: &'static str, value: &str) -> Refusal {
    Refusal::Value {
        option,
        value: shown(value),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
