//! What is done inside a lab's namespaces: commands, sockets, servers, and looking at conntrack's table.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use anyhow::Context as _;

use super::{Lab, Server, command, namespace, proxy, rules, servers};

impl Lab {
    /// A command that runs `program` in the namespace called `name` for short.
    ///
    /// # Panics
    /// When there is no such namespace.
    #[must_use]
    pub fn command(&self, name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        command::in_netns(&self.netns(name), program)
    }

    /// The node's `iptables`, of the back end that the lab uses.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn iptables(&self, node: &str) -> Command {
        let (node, form) = (self.node(node), self.config.proxy);
        rules::iptables(node, form, proxy::Family::Ipv4, "", &self.directory())
    }

    /// Runs `f` in a thread of its own, in the namespace called `name` for short.
    ///
    /// # Errors
    /// When the namespace cannot be entered (root can), or `f` fails.
    ///
    /// # Panics
    /// When there is no such namespace.
    pub fn within<T: Send>(
        &self,
        name: &str,
        f: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        namespace::within(&self.netns(name), f)
    }

    /// Runs the command and returns what it wrote.
    ///
    /// # Errors
    /// When it cannot be run or fails: the command line and its stderr.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<String> {
        command::run(command, "")
    }

    /// Starts a server in the namespace called `name` for short that serves HTTP and DNS at one address only,
    /// as a process called `program`.
    ///
    /// # Errors
    /// When the address cannot be had.
    ///
    /// # Panics
    /// When there is no such namespace.
    pub fn serve_at(
        &self,
        name: &str,
        program: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Server> {
        servers::start_at(&self.netns(name), program, address, &self.directory())
    }

    /// A TCP socket that listens in the namespace called `name` for short; who connects to it is
    /// accepted by the kernel and never answered.
    ///
    /// # Errors
    /// When the address cannot be had.
    ///
    /// # Panics
    /// When there is no such namespace.
    pub fn listen(&self, name: &str, address: &str) -> anyhow::Result<TcpListener> {
        namespace::within(&self.netns(name), || {
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
        })
    }

    /// A UDP socket in the namespace called `name` for short, that takes what comes and says nothing.
    ///
    /// # Errors
    /// When the address cannot be had.
    ///
    /// # Panics
    /// When there is no such namespace.
    pub fn take_datagrams(&self, name: &str, address: &str) -> anyhow::Result<UdpSocket> {
        namespace::within(&self.netns(name), || {
            UdpSocket::bind(address).with_context(|| format!("cannot bind to {address}"))
        })
    }

    /// The node's conntrack table, as `conntrack -L` prints it, of both families.
    ///
    /// # Errors
    /// When `conntrack` fails.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn conntrack(&self, node: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        for family in ["ipv4", "ipv6"] {
            text += &self.run(self.command(node, "conntrack").args(["-L", "-f", family]))?;
        }
        Ok(text)
    }
}
