//! Which flows a traced command caused.
//!
//! The kernel finds the packets that the command's sockets send, and from then on follows their tuples, in whatever
//! namespace they are: after a translation there is nothing else to go by. So a connection of somebody else
//! that has the very same tuple at that time is followed as well: of another pod's loopback, or of another node
//! on the same kernel. Here the whole flow is known, and such ones are left out.

use crate::{
    journey::model::{Flow, Process},
    source::TracedCommand,
};

/// Whether the command caused the flow. It did not when it was nowhere seen in the command's namespace, and
/// both ends are processes that are known and neither is the command's (which may have gone to another
/// namespace). What is not known of an end speaks for the kernel, which took the flow for the command's, and
/// so do lost events, which may be those in its namespace.
pub(super) fn by(command: TracedCommand, flow: &Flow) -> bool {
    let passes = || {
        let mut seen = flow.subjects.iter();
        seen.any(|sighting| sighting.subject.netns == command.netns)
    };
    let is_anothers = |process: &Option<Process>| {
        process
            .as_ref()
            .is_some_and(|process| process.cgroup != command.cgroup)
    };
    let anothers = || is_anothers(&flow.client_process) && is_anothers(&flow.backend_process);
    flow.may_miss() || passes() || !anothers()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        filter::Sighting,
        report::scenarios::{netns, open_flow},
    };

    fn seen_in(names: &[&str]) -> Flow {
        let mut flow = open_flow();
        flow.subjects = names
            .iter()
            .map(|name| {
                let mut sighting = Sighting {
                    subject: tracer_common::filter::Subject::default(),
                    reply: false,
                };
                sighting.subject.netns = netns(name).0;
                sighting
            })
            .collect();
        flow
    }

    fn command() -> TracedCommand {
        TracedCommand {
            cgroup: 77,
            netns: netns("pod-a1").0,
        }
    }

    fn process(cgroup: u64) -> Option<Process> {
        Some(Process {
            pid: 1,
            comm: "curl".to_owned(),
            cgroup,
        })
    }

    /// Between two processes that are not the command's.
    fn strangers(names: &[&str]) -> Flow {
        let mut flow = seen_in(names);
        flow.client_process = process(78);
        flow.backend_process = process(79);
        flow
    }

    #[test]
    fn a_flow_through_the_commands_namespace_is_its() {
        assert!(by(command(), &strangers(&["node1", "pod-a1"])));
        assert!(!by(command(), &strangers(&["node1", "pod-b1"])));
    }

    #[test]
    fn a_socket_that_the_command_made_elsewhere_is_its() {
        let mut flow = strangers(&["pod-b1"]);
        flow.client_process = process(77);
        assert!(by(command(), &flow));
        let mut flow = strangers(&["pod-b1"]);
        flow.backend_process = process(77);
        assert!(by(command(), &flow));
    }

    #[test]
    fn an_end_of_which_nothing_is_known_may_be_the_commands() {
        let mut flow = strangers(&["pod-b1"]);
        flow.backend_process = None;
        assert!(by(command(), &flow));
        let mut flow = strangers(&["pod-b1"]);
        flow.client_process = None;
        assert!(by(command(), &flow));
    }

    #[test]
    fn where_events_were_lost_nothing_is_left_out() {
        let mut flow = strangers(&["pod-b1"]);
        flow.affected_by_loss = true;
        assert!(by(command(), &flow));
    }
}
