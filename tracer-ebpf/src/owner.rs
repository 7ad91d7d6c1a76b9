//! Whose a socket is: the process that opened it.
//!
//! What runs while a packet is sent need not be its sender: acknowledgements, retransmissions and
//! what waited for ARP are sent in softirqs, which interrupt anybody. So a socket's process is noted
//! when the process makes the socket (`cgroup/sock_create` on the root of the cgroup tree, which runs
//! in the `socket` call, 5.7 to 6.18, and not for the kernel's own sockets), under the socket's cookie:
//! a number that no other socket gets. The event of a packet's first hop has the cookie of the socket
//! that the buffer belongs to, and the agent looks here for the process.
//!
//! A socket that `accept` returns is made by the kernel in a softirq and has no process here, nor has
//! one that was there before.
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros give contexts by value"
)]

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_task, bpf_get_socket_cookie,
    },
    macros::cgroup_sock,
    programs::SockContext,
};
use tracer_common::flow::Owner;

use crate::{
    fields::{TASK_COMM, TASK_LEADER},
    maps::OWNERS,
    memory,
};

/// The socket may be made: always.
const PASS: i32 = 1;

/// Runs in the process that makes a socket.
#[cgroup_sock(sock_create)]
pub(crate) fn socket_create(ctx: SockContext) -> i32 {
    // SAFETY: the helpers take this program's context, or nothing.
    let (cookie, ids, cgroup) = unsafe {
        (
            bpf_get_socket_cookie(ctx.as_ptr()),
            bpf_get_current_pid_tgid(),
            bpf_get_current_cgroup_id(),
        )
    };
    let owner = Owner {
        comm: process_name(),
        cgroup,
        pid: (ids >> 32) as u32,
        reserved: 0,
    };
    // Full or not, the socket is made.
    let _ = OWNERS.insert(cookie, owner, 0);
    PASS
}

/// The name of the process: of the thread group's leader, as `/proc/PID/comm` has it; where this
/// kernel does not show it, that of the thread.
#[inline(always)]
fn process_name() -> [u64; 2] {
    let mut name = MaybeUninit::<[u64; 2]>::uninit();
    if !TASK_LEADER.is_absent() && !TASK_COMM.is_absent() {
        let mut leader = MaybeUninit::<u64>::uninit();
        // SAFETY: the helper takes nothing and gives the running task.
        let task = unsafe { bpf_get_current_task() };
        if memory::copy(&mut leader, task + TASK_LEADER.offset()) {
            // SAFETY: the copy filled it.
            let leader = unsafe { leader.assume_init() };
            if memory::copy(&mut name, leader + TASK_COMM.offset()) {
                // SAFETY: the copy filled it.
                return unsafe { name.assume_init() };
            }
        }
    }
    // SAFETY: the helper fills the buffer, of the size that it is told, or zeroes it.
    unsafe {
        bpf_get_current_comm(name.as_mut_ptr().cast(), 16);
        name.assume_init()
    }
}
