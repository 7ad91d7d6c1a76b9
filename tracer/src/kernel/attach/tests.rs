//! What the running kernel's verifier thinks of the programs (needs root).

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use tracer_common::filter;

use super::*;
use crate::kernel::{
    btf::KernelBtf,
    cast::Cast,
    facts::{self, Surroundings},
    faults::Faults,
    load,
    plan::{Facts, Family, NetfilterWay, Standing},
};

/// The most instructions that the verifier may walk for one program: starting costs mostly that,
/// and a million is where it gives up. Some way above what they take.
const MOST: u32 = 80_000;

/// This kernel, and the object in it, without any program yet. The verifier takes programs for
/// kprobes also where the kernel has none to attach them to, so it is said to have them.
fn loaded(faults: Faults) -> Option<(Facts, Object, Ebpf, Btf)> {
    let (kernel, btf) = (KernelBtf::load().ok()?, Btf::from_sys_fs().ok()?);
    let offsets = kernel.offsets().unwrap();
    let object = Object::new(&offsets, faults, Cast::find(&kernel, faults)).unwrap();
    let facts = Facts {
        kprobes: true,
        ..facts::gather(&kernel, &offsets, &Surroundings::look())
    };
    let (sizes, program) = (load::Sizes::default(), filter::Program::default());
    let ebpf = load::load(&object, &btf, sizes, &program, None).ok()?;
    Some((facts, object, ebpf, btf))
}

/// Of every program that this kernel can be asked about, by name.
fn walked(way: NetfilterWay, faults: Faults) -> Option<BTreeMap<String, u32>> {
    let (facts, object, mut ebpf, btf) = loaded(faults)?;
    let mut plan = Plan::new(&facts, Some(way));
    let loads = load_all(&mut plan, &object, &mut ebpf, &btf, &Loads::new());
    let found = loads.iter().filter_map(|(name, load)| {
        let instructions = match &load.as_ref().ok()?.fd {
            Some(fd) => instructions(fd.as_fd()),
            None => instructions(fd_of(ebpf.program(name)?)?),
        };
        Some((name.clone(), instructions?))
    });
    Some(found.collect())
}

/// Where the kernel has a program that aya loaded.
fn fd_of(program: &Program) -> Option<BorrowedFd<'_>> {
    let fd = match program {
        Program::BtfTracePoint(program) => program.fd(),
        Program::FEntry(program) => program.fd(),
        Program::FExit(program) => program.fd(),
        Program::KProbe(program) => program.fd(),
        Program::CgroupSkb(program) => program.fd(),
        _ => return None,
    };
    fd.ok().map(AsFd::as_fd)
}

/// How many instructions the verifier walked for a program; before 5.16 the kernel does not say.
fn instructions(program: BorrowedFd<'_>) -> Option<u32> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let number = lines.find_map(|line| line.strip_prefix("verified_insns:"))?;
    number.trim().parse().ok()
}

#[test]
fn the_verifier_is_soon_done_with_each_program() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let ways = [
        NetfilterWay::Fentry,
        NetfilterWay::Link,
        NetfilterWay::Kprobe,
    ];
    for faults in [Faults::Handled, Faults::Fatal] {
        let of_way = |way| walked(way, faults);
        let all: BTreeMap<String, u32> = ways.into_iter().filter_map(of_way).flatten().collect();
        for (name, walked) in &all {
            println!("{name}: {walked} instructions walked (faults: {faults:?})");
        }
        let much: Vec<_> = all.iter().filter(|(_, walked)| **walked > MOST).collect();
        assert!(much.is_empty(), "{faults:?}: {much:?}");
    }
}

#[test]
fn a_family_that_cannot_be_attached_is_taken_out_whole() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let Some((facts, object, ebpf, btf)) = loaded(Faults::Handled) else {
        return println!("skipped: the object cannot be loaded");
    };
    let mut plan = Plan::new(&facts, Some(NetfilterWay::Kprobe));
    // No kernel has it.
    let netfilter = |family: &&mut Family| family.kind == Kind::Netfilter;
    let family = plan.families.iter_mut().find(netfilter).unwrap();
    for step in &mut family.steps {
        step.target = match &step.target {
            Target::Kretprobe(function) => Target::Kretprobe(function.clone()),
            _ => Target::Kprobe("no_such_function".to_owned()),
        };
    }
    let Attached { ebpf, netfilter } = carry_out(&mut plan, &object, ebpf, &btf);
    assert!(netfilter.is_none());
    let family = plan.family(Kind::Netfilter).unwrap();
    assert_eq!(family.choice, None);
    assert!(matches!(family.ways[0].standing, Standing::Refused { .. }));
    // A program that is not loaded has nothing to be known of.
    for program in ["netfilter_call", "netfilter_return"] {
        assert!(ebpf.program(program).unwrap().info().is_err(), "{program}");
    }
    assert!(ebpf.program("device_queue").unwrap().info().is_ok());
}

/// Needs root. A child that ends every moment is what reading the rules of hundreds of namespaces is like.
#[test]
fn signals_without_a_pause_refuse_no_program() {
    let Some((facts, object, mut ebpf, btf)) = loaded(Faults::Handled) else {
        return println!("skipped: needs root and a kernel with BTF");
    };
    // SAFETY: the handler does nothing.
    unsafe { signal_hook_registry::register(libc::SIGCHLD, || ()) }.unwrap();
    let mut plan = Plan::new(&facts, None);
    let over = AtomicBool::new(false);
    // As the first thread of a process takes its signals.
    // SAFETY: it asks for its own name only.
    let own = unsafe { libc::pthread_self() };
    let loads = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // SAFETY: the thread waits for this one.
                assert_eq!(unsafe { libc::pthread_kill(own, libc::SIGCHLD) }, 0);
            }
        });
        let loads = load_all(&mut plan, &object, &mut ebpf, &btf, &Loads::new());
        over.store(true, Ordering::Relaxed);
        loads
    });
    // What this kernel lacks it refuses as ever.
    let interrupted = std::io::Error::from_raw_os_error(libc::EAGAIN).to_string();
    let refused: Vec<_> = loads
        .iter()
        .filter_map(|(name, load)| Some((name, load.as_ref().err()?)))
        .filter(|(_, reason)| reason.contains(&interrupted))
        .collect();
    assert!(!loads.is_empty() && refused.is_empty(), "{refused:?}");
}
