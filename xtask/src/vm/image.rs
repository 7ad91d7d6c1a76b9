//! The initramfs of the test machine: programs of this machine, the kernel's modules, the tracer,
//! the lab's server and script.

use std::path::Path;

use super::kernel::Kernel;
use super::lab;
use super::modules;
use super::paths::Traced;
use super::programs::Programs;

/// A program that the test machine runs, and the Debian package that has it.
pub(crate) const PROGRAMS: [(&str, &str); 16] = [
    ("busybox", "busybox-static"),
    ("dash", "dash"),
    ("ip", "iproute2"),
    ("iptables-nft", "iptables"),
    ("iptables-nft-restore", "iptables"),
    ("ip6tables-nft-restore", "iptables"),
    ("iptables-legacy", "iptables"),
    ("iptables-legacy-restore", "iptables"),
    ("ip6tables-legacy-restore", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("curl", "curl"),
    ("ipvsadm", "ipvsadm"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("ipset", "ipset"),
];
/// What `ipset` looks protocols up in.
const PROTOCOLS: &str = "tcp 6 TCP\nudp 17 UDP\n";
/// iptables' matches and targets.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";
/// The first process.
const SCRIPT: &str = include_str!("guest.sh");
/// The command of its `tracer run`.
const TRACED: &str = include_str!("traced.sh");
/// What measures.
const LOAD: &str = include_str!("load.sh");
/// Whom tcpdump runs as.
const USERS: &str = "root:x:0:0:root:/root:/bin/dash\n";

/// Builds the initramfs for a kernel.
///
/// # Errors
/// When something that goes in cannot be read.
pub(crate) fn build(
    kernel: &Kernel,
    tracer: &Path,
    server: &Path,
    paths: &[Traced],
    options: &str,
) -> anyhow::Result<Vec<u8>> {
    let mut programs = begin(kernel, tracer, server)?;
    lab::add(&mut programs, paths, options);
    Ok(programs.finish())
}

/// Builds one with the tracer, the lab's server and `lab-load`, in which the script does what the
/// plan says, with what is in `load.sh`.
///
/// # Errors
/// When something that goes in cannot be read.
pub(crate) fn with_load(
    kernel: &Kernel,
    [tracer, server, load]: [&Path; 3],
    plan: &str,
) -> anyhow::Result<Vec<u8>> {
    let mut programs = begin(kernel, tracer, server)?;
    programs.add_as(load, "/usr/bin/lab-load")?;
    programs.write(Path::new("/lab/load"), LOAD.as_bytes());
    // The first that is written stays: this instead of the one without paths.
    programs.write(Path::new("/lab/plan"), plan.as_bytes());
    lab::add(&mut programs, &[], "");
    Ok(programs.finish())
}

/// What is the same in all.
fn begin(kernel: &Kernel, tracer: &Path, server: &Path) -> anyhow::Result<Programs> {
    let mut programs = Programs::new();
    for directory in ["dev", "proc", "sys", "run", "tmp", "opt", "root", "etc"] {
        programs.directory(&Path::new("/").join(directory));
    }
    programs.device(Path::new("/dev/console"), (5, 1));
    programs.device(Path::new("/dev/null"), (1, 3));
    for (program, _) in PROGRAMS {
        programs.add(program)?;
    }
    programs.write(Path::new("/etc/protocols"), PROTOCOLS.as_bytes());
    programs.add_plugins(Path::new(EXTENSIONS))?;
    programs.add_as(tracer, "/usr/bin/tracer")?;
    programs.add_as(server, "/usr/bin/lab-server")?;
    add_modules(&mut programs, kernel)?;
    programs.write(Path::new("/init"), SCRIPT.as_bytes());
    programs.write(Path::new("/lab/traced"), TRACED.as_bytes());
    programs.write(Path::new("/etc/passwd"), USERS.as_bytes());
    Ok(programs)
}

fn add_modules(programs: &mut Programs, kernel: &Kernel) -> anyhow::Result<()> {
    let mut order = String::new();
    for module in modules::read(&kernel.modules())? {
        let path = format!("/modules/{}.ko", module.name);
        programs.write(Path::new(&path), &module.bytes);
        order += &module.name;
        order.push('\n');
    }
    programs.write(Path::new("/modules/order"), order.as_bytes());
    Ok(())
}
