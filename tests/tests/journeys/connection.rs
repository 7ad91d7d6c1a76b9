//! A connection of the [catalogue](super::paths) in a certain lab: its addresses, and the real
//! client that makes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use tracer_tests::lab::{HTTP_PORT, Lab};
use tracer_tests::trace::path::Path;

use super::paths::{Connection, Outcome, Target};

/// A port that nobody listens on.
const CLOSED_PORT: u16 = 9;
/// In seconds: long before a dropped SYN is sent again, and as long as it takes.
const IMPATIENT: &str = "0.2";
const PATIENT: &str = "30";
/// curl's exit status when it could not connect, and when time ran out.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;

/// A connection with its addresses.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) connection: &'a Connection,
    pub(crate) client: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// The endpoint; for what never gets that far, the destination.
    pub(crate) backend: SocketAddr,
    pub(crate) original: Path,
    pub(crate) reply: Path,
}

impl<'a> Planned<'a> {
    /// From that client port.
    pub(crate) fn new(lab: &'a Lab, connection: &'a Connection, port: u16) -> anyhow::Result<Self> {
        let &Connection { from, ipv6, .. } = connection;
        let destination = destination(lab, connection)?;
        let client = match connection.to {
            Target::Loopback => destination.ip(),
            _ => address(lab, from, ipv6),
        };
        Ok(Self {
            lab,
            connection,
            client: SocketAddr::new(client, port),
            destination,
            backend: backend(lab, connection).unwrap_or(destination),
            original: connection.original.parse()?,
            reply: connection.reply.parse()?,
        })
    }

    pub(crate) fn protocol(&self) -> &'static str {
        match self.connection.outcome {
            Outcome::Resolved => "udp",
            _ => "tcp",
        }
    }

    /// Makes the connection.
    ///
    /// # Errors
    /// When the client ends otherwise than the path has it.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let [program, arguments @ ..] = &self.client_line()[..] else {
            bail!("no client");
        };
        let mut client = self.lab.command(self.connection.from, program);
        let output = client.args(arguments).output()?;
        ensure!(
            output.status.code() == Some(self.expected_status()),
            "{}: the client ended with {}: {}",
            self.connection.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// The client's exit status.
    pub(crate) fn expected_status(&self) -> i32 {
        match self.connection.outcome {
            Outcome::Resolved | Outcome::Answered => 0,
            Outcome::Rejected | Outcome::Refused => REFUSED,
            Outcome::Dropped => TIMED_OUT,
        }
    }

    /// The command that makes the connection, to be run where it comes from.
    pub(crate) fn client_line(&self) -> Vec<String> {
        let (port, destination) = (self.client.port(), self.destination);
        let line = match self.connection.outcome {
            Outcome::Resolved => {
                let from = format!("{}#{port}", self.client.ip());
                format!("dig -b {from} @{} web.default +short", destination.ip())
            }
            outcome => {
                let seconds = match outcome {
                    Outcome::Dropped => IMPATIENT,
                    _ => PATIENT,
                };
                format!(
                    "curl --silent --show-error --max-time {seconds} --local-port {port} http://{destination}/"
                )
            }
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

fn destination(lab: &Lab, connection: &Connection) -> anyhow::Result<SocketAddr> {
    let ipv6 = connection.ipv6;
    Ok(match connection.to {
        Target::Pod(name) => (address(lab, name, ipv6), HTTP_PORT),
        Target::Outside => (address(lab, "outside", ipv6), HTTP_PORT),
        Target::Loopback => (
            either(ipv6, Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            CLOSED_PORT,
        ),
        Target::Service(name) => {
            let service = lab.service(name);
            let ip = either(ipv6, service.cluster_ip, service.cluster_ip6);
            (ip, service.port)
        }
        Target::NodePort(node, name) => {
            let port = lab.service(name).node_port.context("no node port")?;
            (address(lab, node, ipv6), port)
        }
    }
    .into())
}

/// The only endpoint of the Service that is called.
fn backend(lab: &Lab, connection: &Connection) -> Option<SocketAddr> {
    let (Target::Service(name) | Target::NodePort(_, name)) = connection.to else {
        return None;
    };
    let endpoint = lab.service(name).endpoints.first()?;
    let ip = either(connection.ipv6, endpoint.ipv4, endpoint.ipv6);
    Some((ip, endpoint.port).into())
}

fn either(ipv6: bool, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
    if ipv6 { v6.into() } else { v4.into() }
}

/// The address of a pod, a node or the machine outside.
pub(crate) fn address(lab: &Lab, name: &str, ipv6: bool) -> IpAddr {
    if name == "outside" {
        return either(ipv6, lab.outside().ipv4, lab.outside().ipv6);
    }
    match lab.nodes().iter().find(|node| node.name == name) {
        Some(node) => either(ipv6, node.ipv4, node.ipv6),
        None => either(ipv6, lab.pod(name).ipv4, lab.pod(name).ipv6),
    }
}
