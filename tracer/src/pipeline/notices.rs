//! What a source says beside records: each notice is handed to whoever it concerns.

use std::io;

use super::{Pipeline, When};
use crate::{
    journey::model::{Ends, NetnsId, Process},
    output::Sink,
    report::listening::{Listener, Port},
    source::{ListeningSocket, Notice, Shedding, SocketProcess, Statistics},
};

impl<K: Sink> Pipeline<K> {
    /// Takes a notice.
    pub(super) fn notice(&mut self, notice: &Notice) -> io::Result<()> {
        match notice {
            Notice::Began { time } => self.journeys.began(*time),
            Notice::NetfilterAttached { netns, time } => {
                self.journeys
                    .netfilter_observed(NetnsId(*netns), Some(*time));
            }
            Notice::NetfilterDetached { netns, .. } => {
                self.journeys.netfilter_observed(NetnsId(*netns), None);
            }
            Notice::NetfilterEverywhere { time } => {
                self.journeys.netfilter_observed_everywhere(*time);
            }
            Notice::Owner { cookie, process } => {
                self.journeys.socket_made(*cookie, process_of(process));
            }
            Notice::Socket {
                netns,
                protocol,
                local,
                remote,
                process,
            } => {
                let ends = Ends {
                    netns: NetnsId(*netns),
                    protocol: *protocol,
                    local: (*local).into(),
                    remote: (*remote).into(),
                };
                self.journeys.socket_held(&ends, process_of(process));
            }
            Notice::Listeners {
                netns,
                protocol,
                port,
                time,
                sockets,
            } => {
                let port = Port {
                    netns: NetnsId(*netns),
                    protocol: *protocol,
                    port: *port,
                };
                let listeners = sockets.iter().map(listener_of).collect();
                self.listening.found(port, *time, listeners);
            }
            Notice::Bytes(bytes) => {
                self.lookups.take(bytes);
                self.journeys.bytes(bytes.time, &bytes.bytes, bytes.length);
            }
            Notice::Loss(loss) => self.journeys.lost(loss.after, loss.before),
            Notice::Statistics(statistics) => return self.statistics(statistics),
            Notice::Problem(problem) => self.problems.push(problem.clone()),
        }
        Ok(())
    }

    /// Shows the counts as they come; the first ones only when packets are let go, for nothing was counted yet.
    fn statistics(&mut self, statistics: &Statistics) -> io::Result<()> {
        let before = self.statistics.map_or(Shedding::None, |it| it.shedding);
        let changes = before != statistics.shedding;
        if changes {
            let sampled = statistics.shedding != Shedding::None;
            self.journeys.sampled(statistics.time, sampled);
        }
        if self.when != When::AtTheEnd && (self.statistics.is_some() || changes) {
            let report = self.stats_report(statistics);
            self.sink.stats(&report)?;
        }
        self.statistics = Some(*statistics);
        Ok(())
    }
}

fn process_of(process: &SocketProcess) -> Process {
    let SocketProcess { pid, comm, cgroup } = process;
    Process {
        pid: *pid,
        comm: comm.clone(),
        cgroup: *cgroup,
    }
}

fn listener_of(socket: &ListeningSocket) -> Listener {
    Listener {
        local: socket.local,
        process: socket.process.as_ref().map(process_of),
    }
}
