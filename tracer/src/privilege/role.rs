//! Which part of the program needs which privileges while it traces; the table in
//! `docs/privileges.md` is this one.

use super::Capability;

/// A part of the running program, by what it still has to do when everything is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The main thread of `tracer watch`: takes records out of the ring and prints.
    Watch,
    /// The threads of `tracer live`: one as that of `watch`, one draws; both write the files that the
    /// user asks for.
    Live,
    /// The main thread of `tracer record`: as above, and begins the next files of a recording.
    Record,
    /// The main thread of `tracer run`: as that of `watch`, hands signals on to the command, and
    /// removes its cgroup.
    Run,
    /// The thread that keeps what is known of the node fresh: looks at processes, enters network
    /// namespaces.
    Node,
    /// The thread that reads rules: enters namespaces, asks the kernel, and runs the system's own
    /// programs there (`nft`, `iptables-save`).
    Rules,
    /// The thread that makes netfilter links: enters namespaces, lists their rules, links there.
    Netfilter,
    /// The thread that finds out which process a socket is of: looks at tables of sockets and at
    /// processes' descriptors.
    Sockets,
    /// The thread that has the kernel measure the BPF programs, where there is a budget.
    Costs,
    /// The thread that asks the Kubernetes API.
    Kubernetes,
    /// The process that removes the command's cgroup when the tracer was killed.
    Guardian,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Watch,
        Self::Live,
        Self::Record,
        Self::Run,
        Self::Node,
        Self::Rules,
        Self::Netfilter,
        Self::Sockets,
        Self::Costs,
        Self::Kubernetes,
        Self::Guardian,
    ];

    /// What it cannot do without.
    #[must_use]
    pub fn needs(self) -> &'static [Capability] {
        match self {
            Self::Watch | Self::Kubernetes => &[],
            Self::Live | Self::Record | Self::Guardian => &[Capability::DacOverride],
            Self::Run => &[Capability::DacOverride, Capability::Kill],
            Self::Sockets => &[Capability::DacReadSearch, Capability::SysPtrace],
            Self::Costs => &[Capability::SysAdmin],
            Self::Node => &[
                Capability::DacReadSearch,
                Capability::SysPtrace,
                Capability::SysAdmin,
            ],
            Self::Rules => &[
                Capability::DacReadSearch,
                Capability::NetAdmin,
                Capability::NetRaw,
                Capability::SysPtrace,
                Capability::SysAdmin,
            ],
            Self::Netfilter => &[
                Capability::DacReadSearch,
                Capability::NetAdmin,
                Capability::SysPtrace,
                Capability::SysAdmin,
            ],
        }
    }

    /// What the programs that it runs need of that, and would not get from their user.
    pub(super) fn hands_on(self) -> &'static [Capability] {
        match self {
            // iptables-legacy-save asks through a raw socket.
            Self::Rules => &[Capability::NetAdmin, Capability::NetRaw],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_this_one() {
        let documented = include_str!("../../../docs/privileges.md");
        let kept = |line: &str| {
            let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
            Some(row.split_once(" | ")?.1.to_owned())
        };
        let (_, table) = documented.split_once("| part | keeps |").unwrap();
        let rows: Vec<String> = table.lines().filter_map(kept).collect();
        let expected = Role::ALL.map(|role| match role.needs() {
            [] => "nothing".to_owned(),
            needs => needs
                .iter()
                .map(|capability| format!("`{capability}`"))
                .collect::<Vec<_>>()
                .join(", "),
        });
        assert_eq!(rows, expected);
    }
}
