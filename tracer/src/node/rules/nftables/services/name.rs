//! The names that kube-proxy gives to chains.

use super::super::kind::Kind;
use crate::node::{rules::nftables::model::Expression, services::ServiceName};

/// What a chain of a Service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Chooses among all endpoints.
    Service,
    /// Chooses among the endpoints of this node.
    Local,
    /// Takes traffic from outside.
    External,
    /// Checks the source of traffic to a load balancer's address.
    Firewall,
    /// Translates to one endpoint.
    Endpoint,
}

const ROLES: [(&str, Role); 5] = [
    ("service", Role::Service),
    ("local", Role::Local),
    ("external", Role::External),
    ("firewall", Role::Firewall),
    ("endpoint", Role::Endpoint),
];

/// Takes a chain's name apart: its role, its Service's port and the protocol.
///
/// `service-PIOJ4VP5-default/nginx-service/tcp/http`,
/// `endpoint-DJHW6J6A-default/nginx-service/tcp/http__10.244.1.3/8080`
pub(super) fn parse(chain: &str) -> Option<(Role, ServiceName, u8)> {
    let (role, rest) = chain.split_once('-')?;
    let (_, role) = ROLES.iter().find(|(name, _)| *name == role)?;
    let (hash, path) = rest.split_once('-')?;
    let hashed = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_alphanumeric());
    // Cut, so that what is left may be a part of the name only.
    if !hashed || path.ends_with("...") {
        return None;
    }
    let path = match role {
        Role::Endpoint => path.split_once("__")?.0,
        _ => path,
    };
    let mut parts = path.split('/');
    let (namespace, name, protocol, port) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let protocol = Kind::Protocol.value(&Expression::Text(protocol.into()))?;
    let text = match port {
        "" => format!("{namespace}/{name}"),
        port => format!("{namespace}/{name}:{port}"),
    };
    let name = ServiceName::parse(&text)?;
    Some((*role, name, u8::try_from(protocol).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_chains_are_taken_apart() {
        let parsed =
            |name: &str| parse(name).map(|(role, name, proto)| (role, name.to_string(), proto));
        assert_eq!(
            parsed("service-PIOJ4VP5-default/nginx-service/tcp/http"),
            Some((Role::Service, "default/nginx-service:http".to_owned(), 6))
        );
        assert_eq!(
            parsed("endpoint-O2VVIVKD-default/solo/tcp/__10.244.1.3/8080"),
            Some((Role::Endpoint, "default/solo".to_owned(), 6))
        );
        assert_eq!(
            parsed("endpoint-O2VVIVKD-a-b/c-d/udp/dns__fd00..3/53"),
            Some((Role::Endpoint, "a-b/c-d:dns".to_owned(), 17))
        );
        for other in [
            "services",
            "service-endpoints-check",
            "service-short-default/x/tcp/http",
            "service-PIOJ4VP5-default/nginx-service/tcp",
            "service-PIOJ4VP5-default/nginx-service/tcp/ht...",
            "filter-PIOJ4VP5-default/nginx-service/tcp/http",
            "service-PIOJ4VP5-/x/tcp/http",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
