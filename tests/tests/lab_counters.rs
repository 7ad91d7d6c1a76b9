//! A lab's nftables rules with counters work as without, and count what they do. Needs root.

use anyhow::{Context as _, ensure};
use tracer_tests::lab::counters::{Counted, Place, since};
use tracer_tests::lab::{Config, Lab, Proxy, requirement};

#[test]
fn each_connection_counts_once_where_it_is_translated() -> anyhow::Result<()> {
    if let Some(reason) = requirement::unavailable() {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let lab = Lab::up(&Config {
        proxy: Proxy::Nftables,
        ..Config::default()
    })?;
    lab.count("node1")?;
    let before = lab.counted("node1")?;
    let service = lab.service("web-node1");
    let mut curl = lab.command("a1", "curl");
    let url = format!("http://{}/", service.cluster_ip);
    let status = curl.args(["--silent", "--max-time", "30", &url]).output()?;
    ensure!(status.status.success(), "{status:?}");
    let counted = since(&before, &lab.counted("node1")?);
    let key = format!("{} . tcp . {}", service.cluster_ip, service.port);
    let place = Place::Element(key.clone());
    let of_service = |c: &&Counted| c.chain == "service-ips" && c.place == place && c.end == "goto";
    let element = counted.keys().find(of_service);
    let element = element.with_context(|| format!("no element of {key}: {counted:?}"))?;
    ensure!(counted[element] == 1, "{counted:?}");
    let dnat: Vec<_> = counted.iter().filter(|(c, _)| c.end == "dnat").collect();
    let [(rule, 1)] = dnat.as_slice() else {
        anyhow::bail!("not one translation: {counted:?}");
    };
    ensure!(
        rule.chain.contains("default/web-node1/tcp/http"),
        "{rule:?}"
    );
    lab.down()
}
