//! A thousand flows that are well, over all kinds of paths and all forms of rules: not one diagnosis.

use anyhow::ensure;
use tracer_tests::lab::{Config, DNS_PORT, HTTP_PORT, Lab, Proxy};
use tracer_tests::server::dns::BARE;
use tracer_tests::trace::process::{Running, whole_lab};

/// How often each client of a form's is run.
const ROUNDS: usize = 32;
/// How many flows there are to be in all.
const ENOUGH: usize = 1000;

/// From where, and what. Clients that are run one after the other.
fn clients(lab: &Lab, by_name: &str) -> Vec<(&'static str, String)> {
    let ip = |service: &str| lab.service(service).cluster_ip;
    let web6 = lab.service("web").cluster_ip6;
    let (dns, pod) = (ip("kube-dns"), lab.pod("b2").ipv4);
    let (pod6, node6) = (lab.pod("b2").ipv6, lab.node("node1").ipv6);
    let node = lab.node("node1").ipv4;
    let curl = |to: String| format!("curl -sS --max-time 30 http://{to}/");
    vec![
        ("a1", curl(ip("web").to_string())),
        ("a1", curl(format!("[{web6}]"))),
        ("a1", curl(ip("sticky").to_string())),
        ("a1", curl(format!("{pod}:{HTTP_PORT}"))),
        (
            "a1",
            format!("dig @{dns} +short +tries=3 +time=10 web.default"),
        ),
        (
            "a2",
            format!("dig @{pod} -p {DNS_PORT} +short +tries=3 +time=10 web.default"),
        ),
        (
            "a2",
            format!("dig @{dns} +short +tries=3 +time=10 -t AAAA web.default"),
        ),
        (
            "a1",
            format!("dig @{pod6} -p {DNS_PORT} +short +tries=3 +time=10 web.default"),
        ),
        ("a1", curl(format!("[{pod6}]:{HTTP_PORT}"))),
        ("outside", curl(format!("[{node6}]:30080"))),
        ("a1", by_name.to_owned()),
        ("b1", curl(ip("hairpin").to_string())),
        ("node1", curl(ip("web-node2").to_string())),
        ("outside", curl(format!("{node}:30080"))),
        ("node1", curl(format!("{node}:30080"))),
        (
            "a1",
            format!(
                "{} -H x:y",
                curl(format!("{}:{HTTP_PORT}", lab.outside().ipv4))
            ),
        ),
    ]
}

/// A call by a name that a search path finds last: three of its names are not there.
fn by_name(lab: &Lab) -> anyhow::Result<String> {
    let file = super::dns::resolver(lab)?;
    let called = lab.service("web").cluster_ip.to_string();
    let name = format!("{}.{BARE}", called.replace('.', "-"));
    let bind = format!("mount --bind {} /etc/resolv.conf", file.display());
    Ok(format!(
        "unshare --mount sh -c '{bind} && curl -sS -o /dev/null --max-time 30 http://{name}/'"
    ))
}

#[test]
fn a_thousand_healthy_flows_have_no_diagnosis() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut flows = 0;
    for &proxy in Proxy::ALL {
        let lab = Lab::up(&Config {
            proxy,
            ..Config::default()
        })?;
        let watch = Running::watch(["--json", &whole_lab(&lab)])?;
        let by_name = by_name(&lab)?;
        for (from, client) in clients(&lab, &by_name) {
            let script = format!("for n in $(seq {ROUNDS}); do {client} || exit; done");
            lab.run(lab.command(from, "sh").args(["-c", &script]))?;
        }
        let trace = watch.stop()?;
        let totals = trace.totals()?;
        ensure!(totals.lost == 0, "{totals:?}");
        for flow in &trace.flows {
            ensure!(flow.diagnosis.is_none(), "{proxy}: {flow:#?}");
        }
        flows += trace.flows.len();
        lab.down()?;
    }
    println!("{flows} flows");
    ensure!(flows >= ENOUGH, "{flows} flows");
    Ok(())
}
