//! Chooses the BPF object to embed: the one kept with the sources, or the one that
//! `TRACER_BPF_OBJECT` names, so that a freshly built object can be tested before it replaces it.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=TRACER_BPF_OBJECT");
    let kept = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .join("bpf/tracer.bpf.o");
    let object = env::var_os("TRACER_BPF_OBJECT").map_or(kept, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=TRACER_BPF_OBJECT={}", object.display());
}
