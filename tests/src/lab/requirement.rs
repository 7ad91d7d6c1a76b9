//! What the lab and the tests on it need installed, and which Debian package has it.

use std::path::Path;

/// A program and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The program's name, or its whole path.
    pub program: &'static str,
    /// The Debian package.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const fn requirement(
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
) -> Requirement {
    Requirement {
        program,
        package,
        purpose,
    }
}

/// Everything the lab calls.
pub const REQUIREMENTS: &[Requirement] = &[
    requirement("ip", "iproute2", "makes namespaces and devices"),
    requirement("nsenter", "util-linux", "runs programs in namespaces"),
    requirement("iptables-nft", "iptables", "loads kube-proxy's rules"),
    requirement("nft", "nftables", "loads kube-proxy's rules"),
    requirement(
        "/usr/lib/cni/bridge",
        "containernetworking-plugins",
        "attaches pods",
    ),
    requirement("conntrack", "conntrack", "witnesses translations"),
    requirement("tcpdump", "tcpdump", "witnesses packets"),
    requirement("curl", "curl", "is the HTTP client"),
    requirement("dig", "bind9-dnsutils", "is the DNS client"),
];

/// What the tests call beyond that.
pub const OF_TESTS: &[Requirement] = &[
    requirement("bpftool", "bpftool", "witnesses what is left in the kernel"),
    requirement("setpriv", "util-linux", "takes privileges away"),
    requirement("unshare", "util-linux", "lets a command mount"),
    requirement("mount", "mount", "gives a command a resolv.conf"),
    requirement("sysctl", "procps", "makes faults"),
    requirement("setcap", "libcap2-bin", "gives capabilities to a program"),
    requirement("tshark", "tshark", "reads exported captures"),
    requirement("capinfos", "wireshark-common", "reads exported captures"),
    requirement("ipset", "ipset", "makes sets that rules ask for"),
    requirement("tmux", "tmux", "is the terminal of the live view"),
    requirement("script", "bsdutils", "is a terminal that remembers"),
    requirement("perl", "perl-base", "is a server with workers"),
    requirement("ethtool", "ethtool", "lets devices merge and cut packets"),
];

impl Requirement {
    /// Whether the program is there: in `PATH`, or in the directories of root's `PATH`.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into));
        directories
            // A whole path replaces the directory it is joined to.
            .map(|directory| directory.join(self.program))
            .any(|path| Path::new(&path).is_file())
    }
}

/// What is not there.
#[must_use]
pub fn missing(of: &[Requirement]) -> Vec<Requirement> {
    let unmet = |requirement: &&Requirement| !requirement.is_met();
    of.iter().filter(unmet).copied().collect()
}

/// Why no lab can be raised here at all, which a test may skip for; missing programs are not such
/// a reason.
#[must_use]
pub fn unavailable() -> Option<&'static str> {
    let root = rustix::process::geteuid().is_root();
    (!root).then_some("labs are made of network namespaces, which needs root")
}

/// Says what to do when a lab cannot be raised.
pub(super) fn check() -> anyhow::Result<()> {
    if let Some(reason) = unavailable() {
        anyhow::bail!("{reason}: run this with sudo");
    }
    let missing = missing(REQUIREMENTS);
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing
        .iter()
        .map(|requirement| requirement.program)
        .collect();
    let mut packages: Vec<&str> = missing
        .iter()
        .map(|requirement| requirement.package)
        .collect();
    packages.dedup();
    anyhow::bail!(
        "the lab needs {}: run `apt-get install {}`, or `cargo xtask demo`, which does it",
        programs.join(", "),
        packages.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_nowhere_is_missing() {
        assert!(requirement("sh", "dash", "").is_met());
        assert!(requirement("/bin/sh", "dash", "").is_met());
        assert!(!requirement("no-such-program", "none", "").is_met());
        assert!(!requirement("/usr/lib/cni/no-such-plugin", "none", "").is_met());
    }
}
