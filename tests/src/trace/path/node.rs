//! How a node forwards, by the kernel's sources (6.x): the hooks and devices in their order.
//!
//! The hooks of netfilter are where the tracer puts them: at the device by which a packet came in
//! up to FORWARD, at the one by which it leaves from then on (`in` and `out` of the hook's state).
//!
//! **Bridge.** A packet that comes in by a port of `cni0` runs PREROUTING inside the bridge, since
//! bridge-nf-call-iptables is on (`br_nf_pre_routing`; the hook's `in` is the bridge, not the port).
//! Then there are two cases:
//! - It is for another port: it also runs FORWARD and POSTROUTING inside the bridge
//!   (`br_nf_forward`, `br_nf_post_routing`), both with the bridge as device, and goes to the other
//!   port's queue.
//! - It is for the node or to be routed: the bridge passes it up as received by `cni0`, where
//!   `ip_sabotage_in` keeps it from running PREROUTING again.
//!
//! A packet whose destination PREROUTING changed to an address behind the same bridge belongs to
//! the first case, but needs the new neighbour's MAC address
//! (`br_nf_pre_routing_finish_bridge`). While the neighbour entry is connected and has its header
//! cached, the packet goes straight on; otherwise the neighbour's output function sends it through
//! the queue of `cni0`, whose transmit function lets it go on from there (`bridged_dnat`). The entry
//! leaves that state by itself (first use, staleness after 15 to 45 s), so each such packet may take
//! either way: those are the only two.
//!
//! A packet that the node sends into the bridge goes through the queue of `cni0` and its transmit
//! function to the port's queue, and runs no hooks inside: br_netfilter has none for it.
//!
//! **ptp.** The host's end of each pod's pair is a routed device like any other.
//!
//! **Redirects.** A node that forwards a packet out by the device that it came in by tells the source
//! so (IPv4: `ip_forward`, now and then). Here the packets of such paths are translated, and NAT drops
//! redirects of translated connections in OUTPUT (`nf_nat_icmp_reply_translation`).
//!
//! **VXLAN.** The tunnel's device puts a new header around the packet, which then leaves as one of
//! the node's own (OUTPUT, POSTROUTING at `eth0`). On the other side the outer packet is delivered to
//! the tunnel's socket in the kernel (PREROUTING, INPUT at `eth0`) and the inner packet is received
//! by the tunnel's device.

use anyhow::{Context as _, bail};

use super::{Place, Tunnel, Visit, Walk, is_node};
use crate::trace::json::{Kind, Stage};

/// A way into a node, or out of it.
#[derive(Clone, Debug)]
enum Side {
    /// The host's end of a pod's pair.
    Pod(Place),
    /// The uplink, to a machine or a node without a tunnel.
    Uplink,
    /// The tunnel to another node.
    Tunnel(String),
    /// A process of the node.
    Own,
}

impl Walk<'_> {
    /// A packet in a node, from the place before it to the place after it.
    pub(super) fn node(
        &mut self,
        before: Option<&Visit>,
        visit: &Visit,
        next: Option<&Visit>,
    ) -> anyhow::Result<()> {
        let (from, to) = (self.side(visit, before), self.side(visit, next));
        let bridged = self.bridges() && matches!((&from, &to), (Side::Pod(_), Side::Pod(_)));
        match &from {
            Side::Own => self.output(visit, &to),
            _ => self.come_in(visit, &from, bridged)?,
        }
        let inward = self.routed(visit, &from);
        if let Side::Own = to {
            self.translate(Stage::Input, &inward, visit.translations(Stage::Input));
            self.hop(Stage::Socket, &inward);
            return Ok(());
        }
        if !matches!(from, Side::Own) {
            self.hop(Stage::Forward, &inward);
        }
        if !bridged && self.routed(visit, &to) == inward && !matches!(from, Side::Own) {
            self.ways.turns_back = Some(inward.clone());
        }
        if visit.drops_at().is_some() {
            return self.drop_at_forward(&inward, &to, bridged);
        }
        self.go_out(visit, &to, bridged);
        Ok(())
    }

    fn side(&self, node: &Visit, neighbour: Option<&Visit>) -> Side {
        match neighbour.map(|visit| visit.name.as_str()) {
            None => Side::Own,
            Some(name) if self.is_pod(name) => {
                let veth = &self.lab.pod(name).veth;
                Side::Pod(self.place(&node.name, veth, "veth"))
            }
            Some(name) if is_node(name) && self.tunnels() => Side::Tunnel(name.to_owned()),
            Some(_) => Side::Uplink,
        }
    }

    /// The device that IP has the packet on.
    fn routed(&self, node: &Visit, side: &Side) -> Place {
        match side {
            Side::Pod(_) if self.bridges() => self.cni0(node),
            Side::Pod(veth) => veth.clone(),
            Side::Tunnel(_) if self.ipv6 => self.place(&node.name, "flannel-v6.1", "vxlan"),
            Side::Tunnel(_) => self.place(&node.name, "flannel.1", "vxlan"),
            Side::Uplink | Side::Own => self.uplink(node),
        }
    }

    fn cni0(&self, node: &Visit) -> Place {
        self.place(&node.name, "cni0", "bridge")
    }

    fn uplink(&self, node: &Visit) -> Place {
        self.place(&node.name, "eth0", "veth")
    }

    /// OUTPUT has the device of the route to the address before its translation: a Service's is
    /// reached by the default route.
    fn output(&mut self, node: &Visit, to: &Side) {
        let translations = node.translations(Stage::Output);
        let device = if translations.is_empty() {
            self.routed(node, to)
        } else {
            self.uplink(node)
        };
        self.translate(Stage::Output, &device, translations);
    }

    /// From the device to the route lookup.
    fn come_in(&mut self, node: &Visit, from: &Side, bridged: bool) -> anyhow::Result<()> {
        let translations = node.translations(Stage::Prerouting);
        let device = self.routed(node, from);
        match from {
            Side::Pod(veth) => self.hop(Stage::Receive, veth),
            Side::Uplink => self.hop(Stage::Receive, &device),
            Side::Tunnel(other) => self.decapsulate(node, other)?,
            Side::Own => {}
        }
        let port = self.bridges() && matches!(from, Side::Pod(_));
        if port {
            self.hop(Stage::Bridge, &device);
        }
        let readdressed = translations
            .iter()
            .any(|kind| matches!(kind, Kind::Dnat | Kind::UnSnat));
        self.translate(Stage::Prerouting, &device, translations);
        if port && !bridged {
            self.hop(Stage::Bridge, &device);
        }
        if bridged && readdressed {
            self.may_queue_at(&device);
        }
        Ok(())
    }

    /// From here, the packet may go through the device's queue.
    fn may_queue_at(&mut self, device: &Place) {
        let at = self.ways.usual.len();
        self.hops(device, &[Stage::Queue, Stage::Bridge]);
        let detour = self.ways.usual.split_off(at);
        self.ways.queued = Some((at, detour));
    }

    /// From the route to the device.
    fn go_out(&mut self, node: &Visit, to: &Side, bridged: bool) {
        let device = self.routed(node, to);
        let translations = node.translations(Stage::Postrouting);
        self.translate(Stage::Postrouting, &device, translations);
        match to {
            Side::Pod(veth) => {
                if self.bridges() && !bridged {
                    self.hops(&device, &[Stage::Queue, Stage::Bridge]);
                }
                self.hops(veth, &[Stage::Queue, Stage::Transmit]);
            }
            Side::Uplink => self.hops(&device, &[Stage::Queue, Stage::Transmit]),
            Side::Tunnel(other) => {
                self.hops(&device, &[Stage::Queue, Stage::Transmit]);
                self.encapsulate(node, other);
            }
            Side::Own => {}
        }
    }

    fn encapsulate(&mut self, node: &Visit, other: &str) {
        let (here, there) = (self.lab.node(&node.name), self.lab.node(other));
        self.tunnel = Some(if self.ipv6 {
            Tunnel {
                from: here.ipv6.into(),
                to: there.ipv6.into(),
            }
        } else {
            Tunnel {
                from: here.ipv4.into(),
                to: there.ipv4.into(),
            }
        });
        let uplink = self.uplink(node);
        self.hops(
            &uplink,
            &[
                Stage::Output,
                Stage::Postrouting,
                Stage::Queue,
                Stage::Transmit,
            ],
        );
    }

    fn decapsulate(&mut self, node: &Visit, other: &str) -> anyhow::Result<()> {
        let uplink = self.uplink(node);
        self.hops(&uplink, &[Stage::Receive, Stage::Prerouting, Stage::Input]);
        self.tunnel
            .take()
            .context("nothing to take out of a tunnel")?;
        let tunnel = self.routed(node, &Side::Tunnel(other.to_owned()));
        self.hop(Stage::Receive, &tunnel);
        Ok(())
    }

    /// The buffer's device is what IP has the packet on, but inside a bridge the port that it was
    /// going to (`__br_forward`).
    fn drop_at_forward(&mut self, inward: &Place, to: &Side, bridged: bool) -> anyhow::Result<()> {
        match to {
            Side::Pod(veth) if bridged => self.hop(Stage::Drop, veth),
            Side::Own => bail!("what is for the node itself does not come to FORWARD"),
            _ => self.hop(Stage::Drop, inward),
        }
        Ok(())
    }
}
