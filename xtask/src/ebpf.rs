//! `cargo xtask ebpf`: builds the BPF object from source.
//!
//! The BPF target needs `core` built from source and a linker of its own, which stable Rust does
//! not bring. So the object is kept with the sources, and this command renews it: with rustup's
//! nightly where it has (or can get) rust-src, else with Debian's packages of a newer Rust. The
//! linker, bpf-linker, is built once into `<target>/tools`.
//!
//! Beside the object stands a hash of the sources that it was built from. Debug information, which
//! only the conversion to BTF needs, is stripped, and paths are mapped to names that are the same
//! on every machine.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::process;

/// What the object is made of.
const SOURCES: &[&str] = &[
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/src",
    "tracer-common/Cargo.toml",
    "tracer-common/src",
];
pub(crate) const OBJECT: &str = "tracer/bpf/tracer.bpf.o";
const HASH: &str = "tracer/bpf/tracer.bpf.sources";

/// The linker's version, and the LLVM that both it and Debian's compiler are of.
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "22";
/// Debian's compiler with the sources of its library, and that LLVM.
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

/// Builds the object and keeps it, with the hash of its sources.
///
/// # Errors
/// When there is no toolchain that can and none can be installed, or the build fails.
pub(crate) fn build() -> anyhow::Result<()> {
    let object = build_fresh()?;
    let root = process::root();
    fs::copy(&object, root.join(OBJECT)).context("cannot keep the object")?;
    fs::write(root.join(HASH), sources_hash()? + "\n").context("cannot keep the sources' hash")?;
    println!("built {OBJECT}");
    Ok(())
}

/// Fails when the object that is kept was not built from these sources.
///
/// # Errors
/// That it is stale, and what to do.
pub(crate) fn check_fresh() -> anyhow::Result<()> {
    let kept = fs::read_to_string(process::root().join(HASH))
        .context("the object has no hash of its sources")?;
    if kept.trim() != sources_hash()? {
        bail!(
            "{OBJECT} was not built from these sources: run `cargo xtask ebpf` and commit what it changes"
        );
    }
    Ok(())
}

/// Builds the object from source and says where it is; what is kept stays as it is.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_fresh() -> anyhow::Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let target = process::target_directory()?.join("ebpf");
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(process::root())
        .args(&toolchain.select)
        .args([
            "build",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
            "bpfel-unknown-none",
        ])
        .args(["--package", "tracer-ebpf", "--profile", "ebpf"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&toolchain.library)?)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", with_first(&tools()?.join("bin")))
        // Those of the cargo that runs xtask.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS");
    match &toolchain.rustc {
        Some(rustc) => cargo.env("RUSTC", rustc),
        None => cargo.env_remove("RUSTC"),
    };
    process::run(&mut cargo)?;
    let built = target.join("bpfel-unknown-none/ebpf/tracer-ebpf");
    let object = target.join("tracer.bpf.o");
    let mut strip = Command::new(&toolchain.strip);
    process::run(
        strip
            .arg("--strip-debug")
            .arg("-o")
            .arg(&object)
            .arg(&built),
    )?;
    Ok(object)
}

/// `-Clink-arg=--btf` makes the linker turn debug information into BTF.
fn flags(library: &Path) -> anyhow::Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("HOME is not set")?;
    let registry = fs::read_dir(home.join("registry/src"))
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        })
        .unwrap_or_default();
    let mut flags = vec![
        "--cfg".to_owned(),
        format!("bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!(
            "--remap-path-prefix={}=",
            process::root().join("").display()
        ),
        format!("--remap-path-prefix={}=cargo", home.display()),
        format!("--remap-path-prefix={}=rust", library.display()),
    ];
    flags.extend(
        registry
            .iter()
            .map(|path| format!("--remap-path-prefix={}=crates", path.display())),
    );
    Ok(flags.join("\x1f"))
}

/// What compiles for the BPF target.
struct Toolchain {
    cargo: PathBuf,
    rustc: Option<PathBuf>,
    /// The arguments that make cargo the right one.
    select: Vec<&'static str>,
    strip: PathBuf,
    /// The library's sources.
    library: PathBuf,
}

impl Toolchain {
    fn find() -> anyhow::Result<Self> {
        // Building the linker against rustup's LLVM takes long and often fails: only where it is
        // installed already is nightly the quicker way.
        if let Some(linker) = find_in_path("bpf-linker")
            && let Some(sysroot) = nightly_can()
        {
            println!("with rustup's nightly and {}", linker.display());
            return Self::nightly(&sysroot);
        }
        Self::debian()
    }

    fn nightly(sysroot: &Path) -> anyhow::Result<Self> {
        let strip = sysroot.join(format!(
            "lib/rustlib/{}-unknown-linux-gnu/bin/llvm-strip",
            std::env::consts::ARCH
        ));
        let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM}/bin/llvm-strip"));
        let strip = [strip, debian]
            .into_iter()
            .find(|path| path.is_file())
            .or_else(|| find_in_path("llvm-strip"));
        let strip = strip
            .context("no llvm-strip: `rustup component add llvm-tools --toolchain nightly`")?;
        Ok(Self {
            cargo: "cargo".into(),
            rustc: None,
            select: vec!["+nightly"],
            strip,
            library: sysroot.join("lib/rustlib/src"),
        })
    }

    fn debian() -> anyhow::Result<Self> {
        let (cargo, rustc) = (
            PathBuf::from("/usr/bin/cargo"),
            PathBuf::from("/usr/bin/rustc"),
        );
        let prefix = PathBuf::from(format!("/usr/lib/llvm-{LLVM}"));
        let sources = Path::new("/usr/lib/rustlib/src/rust/library/core/src/lib.rs");
        let there = || {
            cargo.is_file()
                && rustc.is_file()
                && sources.is_file()
                && prefix.join("bin/llvm-config").is_file()
        };
        if !there() {
            println!(
                "installing a compiler for the BPF programs: {}",
                DEBIAN_PACKAGES.join(" ")
            );
            crate::packages::apt(DEBIAN_PACKAGES.iter().copied()).context(
                "the BPF programs need rustup's nightly with rust-src and bpf-linker, or Debian's \
                 rustc-web; without either, use the object that is kept with the sources",
            )?;
        }
        if !there() {
            bail!(
                "{} are installed, but not where Debian 12 has them",
                DEBIAN_PACKAGES.join(", ")
            );
        }
        let features = format!("llvm-{LLVM}");
        let arguments = ["--no-default-features", "--features", features.as_str()];
        install_linker(&tools()?, &mut process::cargo(), &arguments, Some(&prefix))?;
        let strip = prefix.join("bin/llvm-strip");
        let library = PathBuf::from("/usr/lib/rustlib/src");
        Ok(Self {
            cargo,
            rustc: Some(rustc),
            select: Vec::new(),
            strip,
            library,
        })
    }
}

/// Where tools are built that no package brings.
fn tools() -> anyhow::Result<PathBuf> {
    Ok(process::target_directory()?.join("tools"))
}

/// Rustup's nightly, when it has its library's sources or can get them.
fn nightly_can() -> Option<PathBuf> {
    let output = Command::new("rustc")
        .args(["+nightly", "--print", "sysroot"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    let sysroot = output
        .status
        .success()
        .then(|| PathBuf::from(path.trim()))?;
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !sources.is_file() {
        let add = [
            "component",
            "add",
            "rust-src",
            "llvm-tools",
            "--toolchain",
            "nightly",
        ];
        Command::new("rustup").args(add).output().ok()?;
    }
    sources.is_file().then_some(sysroot)
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// The search path with a directory before all others.
fn with_first(directory: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).unwrap_or(path)
}

/// Builds bpf-linker once.
fn install_linker(
    tools: &Path,
    cargo: &mut Command,
    arguments: &[&str],
    llvm: Option<&Path>,
) -> anyhow::Result<()> {
    if tools.join("bin/bpf-linker").is_file() || find_in_path("bpf-linker").is_some() {
        return Ok(());
    }
    println!("building bpf-linker into {}", tools.display());
    cargo
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--version",
            LINKER_VERSION,
        ])
        .args(arguments)
        .arg("--root")
        .arg(tools)
        .env("CARGO_TARGET_DIR", tools.join("build"));
    if let Some(llvm) = llvm {
        cargo.env("LLVM_PREFIX", llvm);
    }
    process::run(cargo)?;
    // The build takes more room than all of the project's own.
    fs::remove_dir_all(tools.join("build")).context("cannot remove bpf-linker's build")
}

/// The hash of all sources, names and contents, in the order of their names.
fn sources_hash() -> anyhow::Result<String> {
    let root = process::root();
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file);
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(name.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kept_object_is_of_these_sources() {
        super::check_fresh().unwrap();
    }
}
