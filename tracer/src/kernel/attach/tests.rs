//! What the running kernel's verifier thinks of the programs (needs root).

use aya::programs::loaded_programs;
use tracer_common::filter;

use super::*;
use crate::kernel::{
    btf::KernelBtf,
    facts,
    load::{self, Faults},
    plan::{Facts, Family, NetfilterWay, Standing},
};

/// The most instructions that the verifier may walk for one program: starting costs mostly that,
/// and a million is where it gives up. Some way above what they take.
const MOST: u32 = 80_000;

/// This kernel, and the object in it, without any program yet. The verifier takes programs for
/// kprobes also where the kernel has none to attach them to, so it is said to have them.
fn loaded(faults: Faults) -> Option<(Facts, Ebpf, Btf)> {
    let (kernel, btf) = (KernelBtf::load().ok()?, Btf::from_sys_fs().ok()?);
    let offsets = kernel.offsets().unwrap();
    let facts = Facts {
        kprobes: true,
        ..facts::gather(&kernel, &offsets)
    };
    let (sizes, program) = (load::Sizes::default(), filter::Program::default());
    let ebpf = load::load(&btf, &offsets, sizes, faults, &program).ok()?;
    Some((facts, ebpf, btf))
}

/// Of every program that this kernel can be asked about, by name.
fn walked(way: NetfilterWay, faults: Faults) -> Option<BTreeMap<String, u32>> {
    let (facts, mut ebpf, btf) = loaded(faults)?;
    let mut plan = Plan::new(&facts, Some(way));
    let before: Vec<u32> = ids().into_keys().collect();
    let loads = load_all(&mut plan, &mut ebpf, &btf, &Loads::new());
    let loaded = loads.iter().filter(|(_, load)| load.is_ok());
    let ours = ids().into_iter().filter(|(id, _)| !before.contains(id));
    // The kernel keeps fifteen bytes of a name.
    let ours: BTreeMap<String, u32> = ours.map(|(_, known)| known).collect();
    let found = loaded.filter_map(|(name, _)| {
        let short = &name[..name.len().min(15)];
        Some((name.clone(), *ours.get(short)?))
    });
    Some(found.collect())
}

/// The programs that are loaded, by id: name and instructions walked.
fn ids() -> BTreeMap<u32, (String, u32)> {
    let programs = loaded_programs().filter_map(Result::ok);
    let programs = programs.filter_map(|program| {
        let name = program.name_as_str()?.to_owned();
        Some((program.id(), (name, program.verified_instruction_count()?)))
    });
    programs.collect()
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
    let Some((facts, ebpf, btf)) = loaded(Faults::Handled) else {
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
    let Attached { ebpf, netfilter } = carry_out(&mut plan, ebpf, &btf);
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
