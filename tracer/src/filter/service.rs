//! Services in filters: how one is named, and what is known of one.

use std::{fmt, net::IpAddr};

use super::error::shown;

/// A Service, or one port of it, as a filter names it. Displays as `default/web:http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTest {
    /// `NAMESPACE/NAME`
    pub name: String,
    /// The port; `None` means all.
    pub port: Option<ServicePort>,
}

/// A port of a Service. Names have a letter, so one is never taken for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePort {
    /// Its name.
    Name(String),
    /// Its number, or that of its NodePort.
    Number(u16),
}

/// Where a Service is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Front {
    /// The address; `None` are all (a NodePort's, which are the node's).
    pub address: Option<IpAddr>,
    /// The IP protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// The port of a Service that a flow's client called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalledService {
    /// `NAMESPACE/NAME`
    pub name: String,
    /// The port's name; empty where it has none.
    pub port: String,
    /// The numbers that the port is called by.
    pub numbers: Vec<u16>,
}

impl ServiceTest {
    /// A Service: `NAMESPACE/NAME`, or `NAME` for one in the namespace `default`, and perhaps `:PORT`.
    /// What Services there are, the node knows.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let (namespace, service) = name.split_once('/').unwrap_or(("default", name));
        let wrong = |part: &str| part.is_empty() || part.contains(['/', ':']);
        if wrong(namespace) || wrong(service) || port.is_some_and(wrong) {
            return Err(format!(
                "{} does not name a Service; write NAMESPACE/NAME or NAMESPACE/NAME:PORT, or NAME for \
                 one in `default`",
                shown(text)
            ));
        }
        Ok(Self {
            name: format!("{namespace}/{service}"),
            port: port.map(ServicePort::parse).transpose()?,
        })
    }

    /// Whether the flow is one of it.
    pub(super) fn holds(&self, called: &CalledService) -> bool {
        self.name == called.name && self.port.as_ref().is_none_or(|port| port.is(called))
    }
}

impl ServicePort {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        let out_of_range =
            |_| format!("port {} is out of range; ports are 0 to 65535", shown(text));
        text.parse().map(Self::Number).map_err(out_of_range)
    }

    /// Whether that is the port which was called.
    #[must_use]
    pub fn is(&self, called: &CalledService) -> bool {
        match self {
            Self::Name(name) => *name == called.port,
            Self::Number(number) => called.numbers.contains(number),
        }
    }
}

impl fmt::Display for ServiceTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.port {
            None => Ok(()),
            Some(ServicePort::Name(name)) => write!(f, ":{name}"),
            Some(ServicePort::Number(number)) => write!(f, ":{number}"),
        }
    }
}
