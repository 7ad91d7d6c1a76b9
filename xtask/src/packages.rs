//! Installing what a fresh Debian lacks: the programs of the lab and of the tests, and the kernel
//! module that makes bridged packets pass through iptables.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use tracer_tests::lab::requirement::{self, Requirement};

use crate::process;

/// Present when br_netfilter is loaded or built in.
const BRIDGE_SYSCTLS: &str = "/proc/sys/net/bridge";

/// Installs what the lab needs and this machine lacks, and says so; does nothing, and needs no
/// network, when all is there.
///
/// # Errors
/// Without root, or when apt or modprobe fail.
pub(crate) fn install_for_lab() -> anyhow::Result<()> {
    install(requirement::REQUIREMENTS)
}

/// As [`install_for_lab`], with what only the tests call.
///
/// # Errors
/// As [`install_for_lab`].
pub(crate) fn install_for_tests() -> anyhow::Result<()> {
    install(&[requirement::REQUIREMENTS, requirement::OF_TESTS].concat())
}

fn install(needed: &[Requirement]) -> anyhow::Result<()> {
    if let Some(reason) = requirement::unavailable() {
        bail!("{reason}: run this with sudo");
    }
    let missing = requirement::missing(needed);
    if !missing.is_empty() {
        println!("installing what is needed and this machine lacks:");
        for requirement in &missing {
            println!(
                "  {} (package {}), which {}",
                requirement.program, requirement.package, requirement.purpose
            );
        }
        apt(missing.iter().map(|requirement| requirement.package))?;
        if let Some(requirement) = requirement::missing(needed).first() {
            bail!(
                "{} is still missing after installing {}",
                requirement.program,
                requirement.package
            );
        }
    }
    load_bridge_module()
}

/// Installs Debian packages.
///
/// # Errors
/// When apt is not there or fails.
pub(crate) fn apt<'a>(packages: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .args(["--quiet", "--yes"])
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    process::run_quietly(apt().arg("update"))
        .context("is this a Debian? Install the packages above in this system's way")?;
    process::run_quietly(
        apt()
            .args(["install", "--no-install-recommends"])
            .args(packages),
    )
}

/// A node that runs kube-proxy has it loaded; nothing loads it by itself.
fn load_bridge_module() -> anyhow::Result<()> {
    if Path::new(BRIDGE_SYSCTLS).exists() {
        return Ok(());
    }
    println!("loading the kernel module br_netfilter, as on every node with a bridge");
    process::run_quietly(Command::new("modprobe").arg("br_netfilter"))
        .context("this kernel lacks br_netfilter: the lab cannot be raised")
}
