//! From the API's objects to what is kept of them.
//!
//! `None` means that there is nothing to be kept: a Service that is only another name, a pod that has ended, an
//! object without a name. What is not understood in an object (an address, a protocol) is left out of it.

use std::net::IpAddr;

use k8s_openapi::{
    api::{
        core::v1::{self as core, PodStatus, ServiceStatus},
        discovery::v1::{self as discovery, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::objects::{LONGEST_NAME, Name, Pod, Protocol, Service, ServicePort, Slice, SlicePort};

/// The label that says whose endpoints a slice has.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How many addresses and ports of one object are taken.
const MOST_PARTS: usize = 1000;
/// How long session affinity lasts unless told, in seconds.
const AFFINITY: u32 = 10_800;

/// An object's namespace and name.
#[must_use]
pub fn name(metadata: &ObjectMeta) -> Option<Name> {
    let part = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        (text.len() <= LONGEST_NAME).then(|| text.to_owned())
    };
    Some((part(&metadata.namespace)?, part(&metadata.name)?))
}

/// What is kept of a Service.
#[must_use]
pub fn service(service: &core::Service) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let cluster = spec.cluster_ips.iter().flatten();
    // Before dual stack there was one.
    let cluster = cluster.chain(&spec.cluster_ip);
    let balancers = service.status.as_ref().map(balancers);
    let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let affinity = || {
        let config = spec.session_affinity_config.as_ref()?;
        let seconds = config.client_ip.as_ref()?.timeout_seconds?;
        u32::try_from(seconds).ok()
    };
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let ports = spec.ports.iter().flatten().take(MOST_PARTS);
    Some(Service {
        cluster_ips: addresses(cluster),
        external_ips: addresses(spec.external_ips.iter().flatten()),
        load_balancer_ips: balancers.unwrap_or_default(),
        ports: ports.filter_map(service_port).collect(),
        affinity: sticky.then(|| affinity().unwrap_or(AFFINITY)),
        external_local: is_local(&spec.external_traffic_policy),
        internal_local: is_local(&spec.internal_traffic_policy),
    })
}

/// What is kept of an EndpointSlice.
#[must_use]
pub fn slice(slice: &EndpointSlice) -> Option<Slice> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get(SERVICE_NAME)?;
    let ready = |endpoint: &&discovery::Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // Not said means that it is.
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let endpoints = slice.endpoints.iter().filter(ready);
    let ports = slice.ports.iter().flatten().take(MOST_PARTS);
    Some(Slice {
        service: service.chars().take(LONGEST_NAME).collect(),
        // Of several addresses an endpoint is called by the first.
        addresses: addresses(endpoints.filter_map(|endpoint| endpoint.addresses.first())),
        ports: ports.filter_map(slice_port).collect(),
    })
}

/// What is kept of a pod.
#[must_use]
pub fn pod(pod: &core::Pod) -> Option<Pod> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let spec = pod.spec.as_ref();
    Some(Pod {
        addresses: pod_addresses(status),
        host_network: spec.is_some_and(|spec| spec.host_network == Some(true)),
        node: spec.and_then(|spec| spec.node_name.clone()),
    })
}

fn pod_addresses(status: &PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten();
    addresses(all.map(|ip| &ip.ip).chain(&status.pod_ip))
}

fn balancers(status: &ServiceStatus) -> Vec<IpAddr> {
    let balancer = status.load_balancer.as_ref();
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    addresses(
        ingress
            .into_iter()
            .flatten()
            .filter_map(|it| it.ip.as_ref()),
    )
}

/// Each address once; `None`, as of headless Services, is none.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts.take(MOST_PARTS) {
        if let Ok(address) = text.parse()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()),
    })
}

fn slice_port(port: &discovery::EndpointPort) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port?).ok()?,
    })
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_service_is_kept_with_all_that_it_is_called_by() {
        let it: core::Service = read(json!({
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.80", "fd00::80"],
                "externalIPs": ["198.51.100.7", "nonsense"], "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
                "ports": [
                    {"name": "http", "port": 80, "nodePort": 30080, "targetPort": "web"},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "odd", "port": 99999}, {"name": "other", "port": 1, "protocol": "DCCP"},
                ],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb"}]}},
        }));
        assert_eq!(
            name(&it.metadata).unwrap(),
            ("default".to_owned(), "web".to_owned())
        );
        let port = |name: &str, protocol, port, node_port| ServicePort {
            name: name.to_owned(),
            protocol,
            port,
            node_port,
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let expected = Service {
            cluster_ips: vec![ip("10.96.0.80"), ip("fd00::80")],
            external_ips: vec![ip("198.51.100.7")],
            load_balancer_ips: vec![ip("203.0.113.9")],
            ports: vec![
                port("http", Protocol::Tcp, 80, Some(30080)),
                port("dns", Protocol::Udp, 53, None),
            ],
            affinity: Some(AFFINITY),
            external_local: true,
            internal_local: false,
        };
        assert_eq!(service(&it), Some(expected));
    }

    #[test]
    fn headless_services_have_no_address_and_other_names_are_none() {
        let headless: core::Service = read(json!({
            "metadata": {}, "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]},
        }));
        assert!(service(&headless).unwrap().cluster_ips.is_empty());
        assert_eq!(name(&headless.metadata), None);
        let other =
            json!({"metadata": {}, "spec": {"type": "ExternalName", "externalName": "a.example"}});
        assert_eq!(service(&read(other)), None);
    }

    #[test]
    fn of_a_slice_those_count_that_are_ready() {
        let it: EndpointSlice = read(json!({
            "metadata": {"namespace": "default", "name": "web-1", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.244.1.3"], "conditions": {"ready": true}},
                {"addresses": ["10.244.2.3"], "conditions": {"ready": false}},
                {"addresses": ["10.244.2.4"]},
            ],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "any"}],
        }));
        let slice = slice(&it).unwrap();
        assert_eq!(slice.service, "web");
        let expected: Vec<IpAddr> = ["10.244.1.3", "10.244.2.4"]
            .map(|it| it.parse().unwrap())
            .into();
        assert_eq!(slice.addresses, expected);
        assert_eq!(slice.ports.len(), 1);
        let nobodys = json!({"metadata": {}, "addressType": "IPv4", "endpoints": []});
        assert_eq!(super::slice(&read(nobodys)), None);
    }

    #[test]
    fn a_pod_has_its_addresses_while_it_runs() {
        let of = |phase: &str, host: bool| {
            pod(&read(json!({
                "metadata": {"namespace": "app", "name": "b2"},
                "spec": {"nodeName": "node2", "hostNetwork": host, "containers": []},
                "status": {"phase": phase, "podIP": "10.244.2.3", "podIPs": [{"ip": "10.244.2.3"}, {"ip": "fd00::3"}]},
            })))
        };
        let runs = of("Running", false).unwrap();
        assert_eq!((runs.addresses.len(), runs.host_network), (2, false));
        assert_eq!(runs.node.as_deref(), Some("node2"));
        assert!(of("Running", true).unwrap().host_network);
        assert_eq!(of("Succeeded", false), None);
        assert_eq!(of("Failed", false), None);
    }
}
