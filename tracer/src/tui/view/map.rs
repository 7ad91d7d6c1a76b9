//! This node's pods, bridges, tunnels and Services as they hang together, with what flows through.

use std::collections::{BTreeMap, BTreeSet};

use ratatui::{layout::Rect, text::Line};

use super::{
    Canvas,
    theme::{Theme, Tone, count, size},
    window,
};
use crate::{
    node::{
        link::{Link, LinkKind},
        services::{Frontend, Service},
        snapshot::{Namespace, Snapshot},
    },
    report::services_of,
    tui::{
        app::App,
        model::{Model, traffic::Flux},
    },
};

/// From so many columns on, Services stand beside the topology.
const WIDE: u16 = 120;
/// Columns of rates.
const RATES: usize = 15;
/// Lines of each part.
const LONGEST: usize = 2_000;

pub(super) fn draw(canvas: &mut Canvas<'_>, app: &App, model: &Model, area: Rect) {
    let theme = canvas.theme;
    if area.width >= WIDE {
        let half = area.width / 2;
        let left = Rect {
            width: half - 1,
            ..area
        };
        let right = Rect {
            x: half + 1,
            width: area.width - half - 1,
            ..area
        };
        for (part, lines) in [
            (left, topology(theme, model, usize::from(left.width))),
            (right, services(theme, model, usize::from(right.width))),
        ] {
            let first = window(lines.len(), app.map, part.height);
            canvas.lines(part, &lines[first..]);
        }
        return;
    }
    let lines = all(theme, model, area.width);
    let first = window(lines.len(), app.map, area.height);
    canvas.lines(area, &lines[first..]);
}

/// How many lines there are in a width.
pub(super) fn length(theme: Theme, model: &Model, width: u16) -> usize {
    if width >= WIDE {
        let half = usize::from(width / 2);
        topology(theme, model, half)
            .len()
            .max(services(theme, model, half).len())
    } else {
        all(theme, model, width).len()
    }
}

fn all(theme: Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    let mut lines = topology(theme, model, width);
    lines.push(Line::default());
    lines.extend(services(theme, model, width));
    lines
}

/// Namespaces that are no pod's, with their bridges, what hangs on these, tunnels and other devices;
/// then pods that hang on none.
fn topology(theme: Theme, model: &Model, width: usize) -> Vec<Line<'static>> {
    let topology = Topology {
        theme,
        model,
        width,
    };
    let node = &model.node;
    let mut lines = vec![theme.line(&[(Tone::Heading, "Pods, bridges, tunnels")])];
    let mut placed = BTreeSet::new();
    let mut hosts: Vec<&Namespace> = node
        .namespaces()
        .iter()
        .filter(|netns| netns.pod.is_none() && netns.links.len() > 1)
        .collect();
    // Who hangs on another's bridge is found there.
    let has_bridge = |netns: &Namespace| {
        netns
            .links
            .values()
            .any(|link| link.kind == LinkKind::Bridge)
    };
    hosts.sort_by_key(|netns| {
        (
            !has_bridge(netns),
            !netns.initial,
            netns.display_name().into_owned(),
        )
    });
    for host in hosts {
        if !placed.contains(&host.inode) {
            lines.extend(topology.host(host, &mut placed));
        }
    }
    let others = node.namespaces().iter();
    let others = others.filter(|netns| netns.pod.is_some() && !placed.contains(&netns.inode));
    for netns in others {
        lines.push(topology.pod(netns, None, ""));
    }
    if lines.len() == 1 {
        lines.push(theme.line(&[(Tone::Dim, "nothing is known of this node yet")]));
    }
    lines.truncate(LONGEST);
    lines
}

struct Topology<'a> {
    theme: Theme,
    model: &'a Model,
    width: usize,
}

impl Topology<'_> {
    fn host(&self, host: &Namespace, placed: &mut BTreeSet<u32>) -> Vec<Line<'static>> {
        let name = host.display_name().into_owned();
        let flux = self.model.traffic.places.get(&name);
        let mut lines = vec![self.line(("", Tone::Strong), &name, "", flux)];
        let mut links: Vec<&Link> = host.links.values().collect();
        links.sort_by_key(|link| (rank(&link.kind), link.name.clone()));
        for link in links {
            let is_port = link.master.is_some();
            let pod = self.peer(link);
            if link.kind == LinkKind::Loopback || is_port {
                continue;
            }
            if let Some(pod) = pod.filter(|pod| pod.pod.is_some()) {
                placed.insert(pod.inode);
                lines.push(self.pod(pod, Some((host, link)), "  "));
                continue;
            }
            lines.push(self.device(host, link, "  "));
            let ports = host.links.values();
            let mut ports: Vec<&Link> = ports
                .filter(|port| port.master == Some(link.index))
                .collect();
            ports.sort_by_key(|port| self.peer(port).map(|pod| pod.display_name().into_owned()));
            for port in ports {
                match self.peer(port).filter(|peer| peer.inode != host.inode) {
                    Some(pod) => {
                        placed.insert(pod.inode);
                        lines.push(self.pod(pod, Some((host, port)), "    "));
                    }
                    None => lines.push(self.device(host, port, "    ")),
                }
            }
        }
        lines
    }

    fn peer(&self, link: &Link) -> Option<&Namespace> {
        let peer = link.peer?;
        self.model.node.namespace(peer.netns)
    }

    /// `  cni0 bridge 10.244.1.1/24   12.3K/s`.
    fn device(&self, host: &Namespace, link: &Link, indent: &str) -> Line<'static> {
        let key = (host.display_name().into_owned(), link.name.clone());
        let flux = self.model.traffic.devices.get(&key);
        let mut words: Vec<String> = Vec::new();
        if !link.up {
            words.push("DOWN".to_owned());
        }
        words.push(link.kind.to_string());
        words.extend(link.tunnel.map(|tunnel| format!("vni {}", tunnel.vni)));
        words.extend(link.addresses.iter().take(2).map(ToString::to_string));
        let more = words.join(" ");
        self.line((indent, Tone::Plain), &link.name, &more, flux)
    }

    /// `    app/a1 10.244.1.2 (veth8a3844aa)   1.2K/s`.
    fn pod(
        &self,
        netns: &Namespace,
        port: Option<(&Namespace, &Link)>,
        indent: &str,
    ) -> Line<'static> {
        let name = match &netns.pod {
            Some(pod) => pod.to_string(),
            None => netns.display_name().into_owned(),
        };
        let links = netns.links.values();
        let addresses = links
            .filter(|link| link.kind != LinkKind::Loopback)
            .flat_map(|link| &link.addresses);
        let address = addresses.map(|prefix| prefix.address.to_string()).next();
        let device = port.map_or(String::new(), |(_, link)| format!(" ({})", link.name));
        let more = format!("{}{device}", address.unwrap_or_default());
        let flux = self.model.traffic.places.get(&name);
        self.line((indent, Tone::Good), &name, &more, flux)
    }

    fn line(
        &self,
        (indent, tone): (&str, Tone),
        name: &str,
        more: &str,
        flux: Option<&Flux>,
    ) -> Line<'static> {
        let rates = flux.map_or(String::new(), |flux| rates(flux, self.model.now()));
        let room = self.width.saturating_sub(indent.len() + RATES);
        let name_width = room.min(30).min(room / 2 + 2);
        let drops = flux.map_or(0, |flux| flux.drops);
        let drops = match drops {
            0 => String::new(),
            1 => " 1 drop".to_owned(),
            drops => format!(" {} drops", count(drops)),
        };
        self.theme.line(&[
            (Tone::Plain, indent),
            (tone, &self.theme.cell(name, name_width)),
            (
                Tone::Dim,
                &self.theme.head(&format!(" {more}"), room - name_width),
            ),
            (Tone::Problem, &drops),
            (
                Tone::Plain,
                &self.theme.right(&rates, RATES.saturating_sub(drops.len())),
            ),
        ])
    }
}

/// What goes out and in, in bytes a second.
fn rates(flux: &Flux, now: u64) -> String {
    match (flux.sent.rate(now), flux.received.rate(now)) {
        (0, 0) => String::new(),
        (sent, received) => format!("{}/{}/s", size(sent), size(received)),
    }
}

/// Bridges first, then tunnels, then what leads out.
const fn rank(kind: &LinkKind) -> u8 {
    match kind {
        LinkKind::Bridge => 0,
        LinkKind::Vxlan => 1,
        LinkKind::Physical => 2,
        _ => 3,
    }
}

fn services(theme: Theme, model: &Model, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![theme.line(&[(Tone::Heading, "Services")])];
    for (name, ports) in by_name(&model.node) {
        if lines.len() > LONGEST {
            break;
        }
        let flux = model.traffic.services.get(&name);
        let fronts = ports.iter().flat_map(|service| &service.frontends);
        let fronts: Vec<String> = fronts.map(frontend).collect();
        let rates = flux.map_or(String::new(), |flux| rates(flux, model.now()));
        // Of the family that has most: one pod has an address of each.
        let endpoints = ports.iter().map(|service| service.endpoints.len());
        let endpoints = endpoints.max().unwrap_or(0);
        let (tone, endpoints) = match endpoints {
            0 => (Tone::Problem, "no endpoints".to_owned()),
            1 => (Tone::Plain, "1 endpoint".to_owned()),
            more => (Tone::Plain, format!("{more} endpoints")),
        };
        let room = width.saturating_sub(13 + RATES);
        let name_width = room / 2;
        lines.push(theme.line(&[
            (Tone::Translation, &theme.name(&name, name_width)),
            (
                Tone::Dim,
                &theme.head(&format!(" {}", fronts.join(" ")), room - name_width),
            ),
            (tone, &theme.right(&endpoints, 13)),
            (Tone::Plain, &theme.right(&rates, RATES)),
        ]));
        if flux.is_some() {
            for service in ports {
                lines.extend(ends(theme, model, service, width));
            }
        }
    }
    if lines.len() == 1 {
        lines.push(theme.line(&[(Tone::Dim, "no rules of kube-proxy are known")]));
    }
    lines
}

/// The Services of all namespaces, each port once, with what it is in IPv4 and in IPv6.
fn by_name(node: &Snapshot) -> BTreeMap<String, Vec<&Service>> {
    let services = node.namespaces().iter().filter_map(services_of).flatten();
    let mut by_name = BTreeMap::<String, Vec<&Service>>::new();
    for service in services {
        let first = || service.frontends.first().map_or(String::new(), frontend);
        let name = service
            .name
            .as_ref()
            .map_or_else(first, ToString::to_string);
        let ports = by_name.entry(name).or_default();
        // Each node of a lab, and each namespace of a node with rules, has the same ones.
        if !ports.iter().any(|port| port.frontends == service.frontends) {
            ports.push(service);
        }
    }
    by_name
}

/// The endpoints of a Service that is used, with their pods.
fn ends(theme: Theme, model: &Model, service: &Service, width: usize) -> Vec<Line<'static>> {
    let line = |endpoint: &crate::node::services::Endpoint| {
        let links = model.node.with_address(endpoint.address.ip());
        let netns = links
            .first()
            .and_then(|link| model.node.namespace(link.netns));
        let pod = netns
            .and_then(|netns| netns.pod.as_ref())
            .map(ToString::to_string);
        let text = format!("  {} {}", endpoint.address, pod.unwrap_or_default());
        theme.line(&[(Tone::Dim, &theme.short(&text, width))])
    };
    service.endpoints.iter().take(20).map(line).collect()
}

fn frontend(frontend: &Frontend) -> String {
    match frontend {
        Frontend::ClusterIp(address)
        | Frontend::ExternalIp(address)
        | Frontend::LoadBalancerIp(address) => address.to_string(),
        Frontend::NodePort(_, port) => format!("node port {port}"),
    }
}
