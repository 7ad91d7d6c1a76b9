//! A packet through IPVS's table: IPVS among the rules.
//!
//! IPVS has functions in INPUT and OUTPUT, behind those that NAT has there. It looks for a virtual
//! server by the packet's mark, then by its destination, then by its destination's address alone
//! (`ip_vs_service_find`, 3.10 to 7.3). A packet of a connection that it knows goes to that
//! connection's real server, also one that gets no new connections any more; the connections
//! themselves are not looked at.

use std::net::SocketAddr;

use super::{Forwarding, RealServer, Service, Table, VirtualServer};
use crate::node::rules::{
    decision::{Decision, Undecided},
    evaluate::{Answer, BaseChain, ChainKind, RuleSet},
    outcome::{NatRange, Observed, Outcome},
    path::{Certainty, Place, RulePath, Source, Step},
    subject::{Family, Hook, Subject, Surroundings},
    walk::Walk,
};

/// Just before `NF_IP_PRI_NAT_SRC`.
const INPUT: i32 = 99;
/// Just behind `NF_IP_PRI_NAT_DST`.
const OUTPUT: i32 = -98;

const SCHEDULED: Undecided = Undecided::because("the scheduler chooses the real server");
const QUIET: Undecided = Undecided::because("a real server of weight 0 keeps its connections only");
const GONE: Undecided = Undecided::because("the real server is not in the table any more");
const MARK: &str = "the packet's mark is not known";

impl RuleSet for Table {
    fn source(&self) -> Source {
        Source::Ipvs
    }

    fn base_chains(&self, _: Family, hook: Hook) -> Vec<BaseChain> {
        let priority = match hook {
            _ if self.is_empty() => return Vec::new(),
            Hook::Input => INPUT,
            Hook::Output => OUTPUT,
            _ => return Vec::new(),
        };
        // As with NAT, what becomes of a connection's first packet becomes of all.
        let (kind, id) = (ChainKind::Nat, 0);
        vec![BaseChain { priority, kind, id }]
    }

    fn walk(
        &self,
        _: &BaseChain,
        subject: &Subject,
        around: &dyn Surroundings,
        observed: Observed,
    ) -> Answer {
        let mut walk = Walk::new(around, observed);
        let (mut surely, servers) = (None, self.servers_of(subject));
        for (server, why) in servers {
            surely = why.is_none().then_some(server);
            schedule(&mut walk, server, why.as_ref(), subject);
            if surely.is_some() {
                break;
            }
        }
        let mut answer = walk.finish().answer(observed, Chosen::step);
        match (surely, observed) {
            (None, _) => answer.passed = Some(subject.clone()),
            (Some(server), Observed::Destination(given)) if answer.explanation.paths.is_empty() => {
                answer.explanation.paths.push(gone(server, given));
            }
            _ => {}
        }
        answer
    }
}

impl Table {
    /// The virtual servers that may have the packet, in the order in which they are looked for, each
    /// with what could not be decided.
    fn servers_of(&self, subject: &Subject) -> Vec<(&VirtualServer, Option<Undecided>)> {
        let marks = self.servers.iter().rev();
        let marks = marks.map_while(|server| match server.service {
            Service::Mark(mark) => Some((server, mark)),
            Service::Address(..) => None,
        });
        let by_mark =
            marks.filter_map(
                |(server, mark)| match subject.mark.equals(mark, u32::MAX, MARK) {
                    Decision::Yes => Some((server, None)),
                    Decision::Unknown(why) => Some((server, Some(why))),
                    Decision::No => None,
                },
            );
        let by_address = subject.destination_port.and_then(|port| {
            let called = SocketAddr::new(subject.destination, port);
            self.called_at(subject.protocol, called)
        });
        by_mark
            .chain(by_address.map(|server| (server, None)))
            .collect()
    }
}

/// What stands for a rule: a virtual server and the real one chosen.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    server: &'a VirtualServer,
    real: Option<RealServer>,
}

/// What a virtual server may do with the packet.
fn schedule<'a>(
    walk: &mut Walk<'_, Chosen<'a>>,
    server: &'a VirtualServer,
    why: Option<&Undecided>,
    subject: &Subject,
) {
    let mut end = |real, because: Option<Undecided>, outcome| {
        let chosen = Chosen { server, real };
        walk.end(chosen, why.cloned().or(because), outcome, subject);
    };
    let choices = server.real.iter().filter(|real| real.weight != 0).count();
    for real in &server.real {
        let because = match real.weight {
            0 => Some(QUIET),
            _ => (choices > 1).then_some(SCHEDULED),
        };
        end(Some(*real), because, real.outcome(subject.destination_port));
    }
    if choices == 0 {
        let refused = Outcome::Rejected("icmp-port-unreachable".to_owned());
        end(None, (!server.real.is_empty()).then_some(QUIET), refused);
    }
}

/// What is to be said when the virtual server has no such real server now.
fn gone(server: &VirtualServer, given: SocketAddr) -> (Outcome, RulePath) {
    let outcome = Outcome::Dnat(NatRange::to(given.ip(), Some(given.port())));
    let mut step = Chosen { server, real: None }.step();
    step.text = format!("-> {given}");
    let path = RulePath {
        steps: vec![step],
        certainty: Certainty::Candidate(vec![GONE]),
        service: None,
    };
    (outcome, path)
}

impl RealServer {
    /// What it does with a packet to that port, which stays where the real server has none.
    fn outcome(&self, called: Option<u16>) -> Outcome {
        match self.forwarding {
            Forwarding::Masquerading | Forwarding::Local => {
                let port = Some(self.address.port()).filter(|port| *port != 0);
                Outcome::Dnat(NatRange::to(self.address.ip(), port.or(called)))
            }
            Forwarding::Tunnel | Forwarding::Route => {
                Outcome::Stolen(format!("sent untranslated to {}", self.address.ip()))
            }
        }
    }
}

impl Chosen<'_> {
    fn step(&self) -> Step {
        Step {
            source: Source::Ipvs,
            table: String::new(),
            chain: self.server.to_string(),
            place: Place::Entry,
            text: match self.real {
                Some(real) => real.to_string(),
                None => "without a real server to choose".to_owned(),
            },
            comment: None,
        }
    }
}
