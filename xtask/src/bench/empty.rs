//! Programs that do nothing, at the hooks that the tracer uses: what a run of them takes is what
//! measuring, calling and returning take.
//!
//! Two instructions each, loaded by plain bpf(2) calls. Everything goes with its descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, anyhow};
use aya_obj::btf::{Btf, BtfKind};
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use tracer_tests::lab::Lab;

use crate::bench::bpf::{bpf, zero};

/// `r0 = 1; exit`: netfilter accepts, a cgroup lets pass.
const CODE: [(u8, i32); 2] = [(0xb7, 1), (0x95, 0)];
/// A netfilter link's, beside those that conntrack and rules have; or the next, for a hook takes one a
/// priority.
const PRIORITY: i32 = i32::MIN + 1;
/// How many are tried.
const TRIES: i32 = 16;
/// `NFPROTO_IPV4`.
const IPV4: u32 = 2;
/// Prerouting to postrouting.
const HOOKS: u32 = 5;

/// Where a program of the tracer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A tp_btf tracepoint.
    Tracepoint(&'static str),
    /// The IPv4 hooks of the node.
    Netfilter,
    /// The ingress of the root of cgroup v2.
    CgroupIngress,
}

/// The tracer's programs, by what the kernel keeps of their names, and where they are.
pub(crate) const PROGRAMS: [(&str, Place); 8] = [
    ("device_queue", Place::Tracepoint("net_dev_queue")),
    ("device_transmit", Place::Tracepoint("net_dev_start_xmit")),
    ("device_receive", Place::Tracepoint("netif_receive_skb")),
    ("netfilter_enter", Place::Netfilter),
    ("netfilter_leave", Place::Netfilter),
    ("socket_deliver", Place::CgroupIngress),
    ("consume", Place::Tracepoint("consume_skb")),
    ("drop_with_reaso", Place::Tracepoint("kfree_skb")),
];
/// One that is attached, until it is dropped.
pub(crate) struct Empty {
    _links: Vec<OwnedFd>,
    program: OwnedFd,
}

impl Empty {
    /// Attaches one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn attach(place: Place, lab: &Lab, node: &str) -> anyhow::Result<Self> {
        let (program, links) = match place {
            Place::Tracepoint(name) => tracepoint(name),
            Place::Netfilter => lab.within(node, netfilter),
            Place::CgroupIngress => cgroup(),
        }
        .with_context(|| format!("an empty program at {place:?}"))?;
        Ok(Self {
            _links: links,
            program,
        })
    }

    /// What this process's `fdinfo` calls it.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        line.and_then(|id| id.trim().parse().ok())
            .context("a program without an id")
    }
}

type Attached = (OwnedFd, Vec<OwnedFd>);

fn tracepoint(name: &str) -> anyhow::Result<Attached> {
    let btf = Btf::from_sys_fs().map_err(|error| anyhow!("{error}"))?;
    let id = btf
        .id_by_type_name_kind(&format!("btf_trace_{name}"), BtfKind::Typedef)
        .map_err(|error| anyhow!("{error}"))?;
    let kind = bpf_prog_type::BPF_PROG_TYPE_TRACING;
    let program = load(kind, bpf_attach_type::BPF_TRACE_RAW_TP, id)?;
    let mut attr = zero();
    attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    let link = bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)?;
    Ok((program, vec![link]))
}

fn netfilter() -> anyhow::Result<Attached> {
    let kind = bpf_prog_type::BPF_PROG_TYPE_NETFILTER;
    let program = load(kind, bpf_attach_type::BPF_NETFILTER, 0)?;
    let links: io::Result<Vec<OwnedFd>> = (0..HOOKS)
        .map(|hook| {
            let mut tries = (0..TRIES).map(|more| link(&program, hook, PRIORITY + more));
            let free = |link: &io::Result<OwnedFd>| !link.as_ref().is_err_and(is_taken);
            let first = tries.find(free);
            first.unwrap_or_else(|| Err(io::ErrorKind::ResourceBusy.into()))
        })
        .collect();
    Ok((program, links?))
}

fn link(program: &OwnedFd, hook: u32, priority: i32) -> io::Result<OwnedFd> {
    let mut attr = zero();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    attr.link_create.__bindgen_anon_3.netfilter.pf = IPV4;
    attr.link_create.__bindgen_anon_3.netfilter.hooknum = hook;
    attr.link_create.__bindgen_anon_3.netfilter.priority = priority;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

fn cgroup() -> anyhow::Result<Attached> {
    let kind = bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB;
    let ingress = bpf_attach_type::BPF_CGROUP_INET_INGRESS;
    let program = load(kind, ingress, 0)?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let root = mounts
        .lines()
        .find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, path, "cgroup2", ..] => Some(path.to_owned()),
            _ => None,
        })
        .context("no cgroup v2 tree is mounted")?;
    let root = File::open(root)?;
    let mut attr = zero();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.__bindgen_anon_2.target_fd = root.as_raw_fd().cast_unsigned();
    attr.link_create.attach_type = ingress as u32;
    let link = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    Ok((program, vec![link]))
}

fn load(kind: bpf_prog_type, attach: bpf_attach_type, btf_id: u32) -> io::Result<OwnedFd> {
    let code = CODE.map(|(code, immediate)| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: immediate,
    });
    let mut attr = zero();
    // SAFETY: the member of the union that BPF_PROG_LOAD reads; all of it is integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.expected_attach_type = attach as u32;
    load.attach_btf_id = btf_id;
    load.insns = code.as_ptr() as u64;
    load.insn_cnt = u32::try_from(code.len()).unwrap_or_default();
    load.license = c"GPL".as_ptr() as u64;
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}
