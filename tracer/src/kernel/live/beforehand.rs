//! What is asked before anything is loaded: whether tracing can work here, and what the kernel offers.

use super::StartError;
use crate::{
    kernel::{
        btf::{KernelBtf, Offsets},
        facts::{self, Surroundings},
        load::Sizes,
        plan::{Facts, Kind, NetfilterWay, Plan, version},
    },
    privilege::Capabilities,
};

/// The oldest kernel that has a BPF ring buffer.
pub(in crate::kernel) const OLDEST: (u32, u32) = (5, 8);

/// Checks what can be checked before anything is done.
///
/// # Errors
/// [`StartError`].
pub fn check(sizes: Sizes) -> Result<(), StartError> {
    look(sizes).map(drop)
}

/// The surroundings, if tracing can work in them.
pub(super) fn look(sizes: Sizes) -> Result<Surroundings, StartError> {
    sizes.check()?;
    let surroundings = Surroundings::look();
    possible(Capabilities::read()?, &surroundings)?;
    Ok(surroundings)
}

/// Whether tracing can work for a process with these capabilities in these surroundings.
pub(in crate::kernel) fn possible(
    capabilities: Capabilities,
    surroundings: &Surroundings,
) -> Result<(), StartError> {
    let (missing, on_node) = (capabilities.missing(), capabilities.on_node);
    if !missing.is_empty() || !on_node {
        return Err(StartError::Privilege { missing, on_node });
    }
    let release = surroundings.release.clone();
    if version(&release).is_some_and(|version| version < OLDEST) {
        return Err(StartError::Kernel { release });
    }
    if surroundings.keeps_memory() {
        return Err(StartError::Lockdown);
    }
    Ok(())
}

/// What the programs need to know of the kernel, and what it offers.
pub(in crate::kernel) fn understand(
    kernel: &KernelBtf,
    surroundings: &Surroundings,
) -> Result<(Offsets, Facts), StartError> {
    if kernel.lacks_ring_buffer() {
        let release = surroundings.release.clone();
        return Err(StartError::RingBuffer { release });
    }
    let offsets = kernel.offsets()?;
    let facts = facts::gather(kernel, &offsets, surroundings);
    Ok((offsets, facts))
}

/// Who asks for a way of seeing netfilter's hooks gets it or an error: tracing without hooks would
/// show no translation and look as if there were none.
pub(super) fn refuse(plan: &Plan, way: Option<NetfilterWay>) -> Result<(), StartError> {
    match way.zip(plan.lack(Kind::Netfilter)) {
        Some((way, reason)) => Err(StartError::Netfilter { way, reason }),
        None => Ok(()),
    }
}
