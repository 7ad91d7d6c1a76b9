//! Services that choose: which of two endpoints, the one that a client had before, an external
//! address.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab, Proxy};
use tracer_tests::trace::json::{Flow, FlowTranslation, Kind, Trace};
use tracer_tests::trace::process::{self, Running};

use super::super::connection::address;
use super::counted::{Counters, Named};

const FIRST_PORT: u16 = 27800;
/// Connections to a Service of two endpoints: one in a million times they all get the same.
const CALLS: u16 = 20;
const EXTERNAL: &str = "192.168.77.200";

/// A connection, and what counted it.
struct Call {
    client: SocketAddr,
    service: &'static str,
    counters: Counters,
}

fn choices(proxy: Proxy, number: u16) -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config {
        proxy,
        ..Config::default()
    })?;
    add_external(&lab)?;
    for node in lab.nodes() {
        lab.count(&node.name)?;
    }
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let ports = FIRST_PORT + 50 * number..;
    let external = ("outside", "web-nodeport", EXTERNAL.to_owned());
    let cluster = |service| ("a1", service, lab.service(service).cluster_ip.to_string());
    let web = (0..CALLS).map(|_| cluster("web"));
    let sticky = (0..3).map(|_| cluster("sticky"));
    let calls = web.chain(sticky).chain([external]);
    let made: Vec<Call> = ports
        .zip(calls)
        .map(|(port, call)| make(&lab, call, port))
        .collect::<anyhow::Result<_>>()?;
    let trace = watch.stop()?;
    let mut chosen = Vec::new();
    for call in &made {
        let endpoint = judge(&lab, call, &trace);
        let endpoint = endpoint.with_context(|| format!("{proxy}: {}", call.service))?;
        chosen.push((call.service, endpoint));
    }
    for endpoint in [1, 2] {
        ensure!(chosen.contains(&("web", endpoint)), "{chosen:?}");
    }
    let sticky = || chosen.iter().filter(|(service, _)| *service == "sticky");
    ensure!(
        sticky().all(|one| Some(one) == sticky().next()),
        "{chosen:?}"
    );
    lab.down()
}

/// Gives a Service an external address, as kube-proxy writes it.
fn add_external(lab: &Lab) -> anyhow::Result<()> {
    let service = lab.service("web-nodeport");
    let node = lab.node("node1");
    let route = format!("route add {EXTERNAL} via {}", node.ipv4);
    lab.run(lab.command("outside", "ip").args(route.split(' ')))?;
    if lab.config().proxy == Proxy::Nftables {
        let listed =
            lab.run(
                lab.command("node1", "nft")
                    .args(["list", "table", "ip", "kube-proxy"]),
            )?;
        let mut words = listed.split([' ', '\t', '\n', ',']);
        let chain =
            words.find(|word| word.starts_with("external-") && word.contains(&service.name));
        let chain = chain.context("no chain for outside")?;
        let element = format!("{EXTERNAL} . tcp . {} : goto {chain}", service.port);
        let text = format!("add element ip kube-proxy service-ips {{ {element} }}");
        lab.run(lab.command("node1", "nft").arg(text))?;
        return Ok(());
    }
    let saved = lab.run(
        lab.iptables("node1")
            .args(["-t", "nat", "-S", "KUBE-NODEPORTS"]),
    )?;
    let comment = format!("\"{}\"", service.full_name());
    let line = saved
        .lines()
        .find(|line| line.contains(&comment) || line.contains(&service.full_name()));
    let chain = line.and_then(|line| line.rsplit(' ').next());
    let chain = chain.context("no chain for outside")?;
    let comment = format!("{} external IP", service.full_name());
    let rule = format!(
        "-t nat -I KUBE-SERVICES -d {EXTERNAL}/32 -p tcp -m tcp --dport {} -j {chain}",
        service.port
    );
    let mut iptables = lab.iptables("node1");
    iptables.args(rule.split(' '));
    lab.run(iptables.args(["-m", "comment", "--comment", &comment]))?;
    Ok(())
}

fn make(
    lab: &Lab,
    (from, service, to): (&'static str, &'static str, String),
    port: u16,
) -> anyhow::Result<Call> {
    let before = Counters::read(lab)?;
    let mut curl = lab.command(from, "curl");
    let curl = curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--local-port",
    ]);
    let url = format!("http://{to}:{}/", lab.service(service).port);
    lab.run(curl.args([&port.to_string(), &url]))?;
    Ok(Call {
        client: SocketAddr::new(address(lab, from, false), port),
        service,
        counters: Counters::read(lab)?.since(&before),
    })
}

/// Which endpoint it got, from 1.
fn judge(lab: &Lab, call: &Call, trace: &Trace) -> anyhow::Result<u32> {
    let flow = trace.flow("tcp", call.client)?;
    let service = lab.service(call.service);
    let name = Some(service.full_name());
    ensure!(flow.destination.service == name, "{flow:#?}");
    let backend = flow.backend.as_ref().context("no backend")?;
    let mut endpoints = service.endpoints.iter();
    let index = endpoints.position(|endpoint| backend.addr.ip() == endpoint.ipv4);
    let index = index.context("no endpoint of the Service")?;
    let pod = &service.endpoints[index].pod;
    ensure!(backend.pod == Some(lab.pod(pod).full_name()), "{flow:#?}");
    let mut named = Named::new(lab, false);
    for made in &flow.translations {
        let info = made.rule_info.as_ref().context("no rule")?;
        if made.kind == Kind::Dnat {
            ensure!(info.service == name, "{made:#?}");
            let endpoint = info.endpoint.context("no endpoint")?;
            let is = (endpoint.index as usize, endpoint.of as usize);
            ensure!(is == (index + 1, service.endpoints.len()), "{made:#?}");
        }
        // Whether a client came before is not in the rules.
        let sticky = call.service == "sticky" && made.kind == Kind::Dnat;
        ensure!(info.certain != sticky, "{made:#?}");
        if !sticky {
            let rule = made.rule.as_ref().context("no rule")?;
            named.translated("node1", rule)?;
        }
    }
    if call.service == "sticky" {
        one_of_several(lab, call, flow)?;
    } else {
        call.counters.confirm(&named)?;
    }
    Ok(u32::try_from(index)? + 1)
}

/// Exactly one of the ways is that which counted.
fn one_of_several(lab: &Lab, call: &Call, flow: &Flow) -> anyhow::Result<()> {
    let mut made = flow.translations.iter();
    let made: &FlowTranslation = made
        .find(|made| made.kind == Kind::Dnat)
        .context("no DNAT")?;
    let info = made.rule_info.as_ref().context("no rule")?;
    ensure!(info.more == 0 && info.candidates.len() == 2, "{made:#?}");
    let counted = info.candidates.iter().filter(|candidate| {
        let mut named = Named::new(lab, false);
        let known = named.translated("node1", &candidate.rule);
        known.is_ok() && call.counters.confirm(&named).is_ok()
    });
    ensure!(counted.count() == 1, "{made:#?}\n{:#?}", call.counters);
    Ok(())
}

#[test]
fn iptables_nft() -> anyhow::Result<()> {
    choices(Proxy::IptablesNft, 0)
}

#[test]
fn iptables_legacy() -> anyhow::Result<()> {
    choices(Proxy::IptablesLegacy, 1)
}

#[test]
fn nftables() -> anyhow::Result<()> {
    choices(Proxy::Nftables, 2)
}
