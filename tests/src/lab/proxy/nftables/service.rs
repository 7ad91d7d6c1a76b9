//! The chains of one Service: which endpoint, and what NodePort traffic does first.

use super::super::{Endpoint, ServicePort};
use super::{MARK, Writer, chain, endpoint_chain, service_chain};

impl Writer<'_> {
    pub(super) fn service(&self, text: &mut String, service: &ServicePort) {
        if service.endpoints.is_empty() {
            return;
        }
        if service.affinity.is_some() {
            for endpoint in &service.endpoints {
                self.endpoint(text, service, endpoint);
            }
        }
        let all: Vec<&Endpoint> = service.endpoints.iter().collect();
        self.choose(text, "service", service, &all);
        let local = service.local_policy_endpoints();
        if !local.is_empty() {
            self.choose(text, "local", service, &local);
        }
        if service.node_port.is_some() {
            self.external(text, service);
        }
    }

    fn endpoint(&self, text: &mut String, service: &ServicePort, endpoint: &Endpoint) {
        let name = endpoint_chain("endpoint", service, endpoint);
        let affinity = endpoint_chain("affinity", service, endpoint);
        chain(
            text,
            &name,
            [
                format!("update @{affinity} {{ {} saddr }}", self.ip).as_str(),
                &format!(
                    "meta l4proto {} dnat to {}",
                    service.protocol,
                    endpoint.address()
                ),
            ],
        );
    }

    /// The chain that chooses one of the endpoints.
    fn choose(&self, text: &mut String, prefix: &str, service: &ServicePort, from: &[&Endpoint]) {
        let (ip, count) = (self.ip, from.len());
        let mut rules = Vec::new();
        let numbered = |target: &dyn Fn(&Endpoint) -> String| {
            let elements = from.iter().enumerate();
            let elements =
                elements.map(|(index, endpoint)| format!("{index} : {}", target(endpoint)));
            elements.collect::<Vec<_>>().join(", ")
        };
        if service.affinity.is_some() {
            for endpoint in from {
                let affinity = endpoint_chain("affinity", service, endpoint);
                let target = endpoint_chain("endpoint", service, endpoint);
                rules.push(format!("{ip} saddr @{affinity} goto {target}"));
            }
            let targets = numbered(&|e: &Endpoint| {
                format!("goto {}", endpoint_chain("endpoint", service, e))
            });
            rules.push(format!("numgen random mod {count} vmap {{ {targets} }}"));
        } else {
            let targets = numbered(&|e: &Endpoint| format!("{} . {}", e.ip, e.port));
            rules.push(format!(
                "meta l4proto {} dnat {ip} to numgen random mod {count} map {{ {targets} }}",
                service.protocol
            ));
        }
        chain(
            text,
            &service_chain(prefix, service),
            rules.iter().map(String::as_str),
        );
    }

    /// The chain for NodePort traffic.
    fn external(&self, text: &mut String, service: &ServicePort) {
        let cluster = service_chain("service", service);
        let mut rules = Vec::new();
        if service.external_local {
            rules.push(format!(
                "{} saddr {} goto {cluster} comment \"short-circuit pod traffic\"",
                self.ip, self.node.cluster_cidr
            ));
            rules.push(format!(
                "fib saddr type local {MARK} comment \"masquerade local traffic\""
            ));
            rules.push(format!(
                "fib saddr type local goto {cluster} comment \"short-circuit local traffic\""
            ));
            if !service.external_endpoints().is_empty() {
                rules.push(format!("goto {}", service_chain("local", service)));
            }
        } else {
            rules.push(format!("{MARK} comment \"masquerade\""));
            rules.push(format!("goto {cluster}"));
        }
        let name = service_chain("external", service);
        chain(text, &name, rules.iter().map(String::as_str));
    }
}
