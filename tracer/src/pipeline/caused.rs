//! Which flows a traced command caused.
//!
//! The kernel finds the packets that the command's sockets send, and from then on follows their tuples, in whatever
//! namespace they are: after a translation there is nothing else to go by. So a connection of somebody else
//! that has the very same tuple at that time is followed as well: of another pod's loopback, or of another node
//! on the same kernel. Here the whole flow is known, and such ones are left out.

use crate::{journey::model::Flow, source::TracedCommand};

/// Whether the command caused the flow: it was seen in the command's namespace, or one of its sockets is the
/// command's, which may have gone to another namespace. A flow of which events were lost counts as caused,
/// since those may be the lost ones.
pub(super) fn by(command: TracedCommand, flow: &Flow) -> bool {
    let passes = || {
        let mut seen = flow.subjects.iter();
        seen.any(|sighting| sighting.subject.netns == command.netns)
    };
    let holds = || {
        let mut ends = [&flow.client_process, &flow.backend_process].into_iter();
        ends.any(|process| {
            process
                .as_ref()
                .is_some_and(|process| process.cgroup == command.cgroup)
        })
    };
    flow.affected_by_loss || passes() || holds()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        filter::Sighting,
        journey::model::Process,
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

    #[test]
    fn a_flow_through_the_commands_namespace_is_its() {
        assert!(by(command(), &seen_in(&["node1", "pod-a1"])));
        assert!(!by(command(), &seen_in(&["node1", "pod-b1"])));
    }

    #[test]
    fn a_socket_that_the_command_made_elsewhere_is_its() {
        let mut flow = seen_in(&["pod-b1"]);
        let process = |cgroup| {
            Some(Process {
                pid: 1,
                comm: "curl".to_owned(),
                cgroup,
            })
        };
        flow.client_process = process(78);
        assert!(!by(command(), &flow));
        flow.client_process = process(77);
        assert!(by(command(), &flow));
        flow.client_process = None;
        flow.backend_process = process(77);
        assert!(by(command(), &flow));
    }

    #[test]
    fn where_events_were_lost_nothing_is_left_out() {
        let mut flow = seen_in(&["pod-b1"]);
        flow.affected_by_loss = true;
        assert!(by(command(), &flow));
    }
}
