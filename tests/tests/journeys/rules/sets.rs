//! Drops by what is in an ipset, as network policies are made of: the rule is certain while the set says so,
//! and a set that changes while tracing changes the answer. The rules' own counters are the witness.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, HTTP_PORT, Lab, Proxy};
use tracer_tests::trace::json::{State, Trace};
use tracer_tests::trace::process::{self, Running, wait_until};

const FIRST_PORT: u16 = 27900;
const PORTS: u16 = 30;

/// In the order of the rules: who may, who may not, and what all others meet.
const ALLOWED: &str = "-m set --match-set lab-allowed src";
const DENIED: &str = "-m set --match-set lab-denied src,dst,dst";

struct Policy<'a> {
    lab: &'a Lab,
    watch: Running,
    port: u16,
    server: Ipv4Addr,
}

impl Policy<'_> {
    fn ipset(&self, words: &str) -> anyhow::Result<()> {
        ipset(self.lab, words)
    }

    /// How many packets the rules of FORWARD have dropped that ask for the set.
    fn dropped(&self) -> anyhow::Result<u64> {
        let mut list = self.lab.iptables("node1");
        let text = self
            .lab
            .run(list.args(["-L", "FORWARD", "-v", "-x", "-n"]))?;
        let line = text.lines().find(|line| line.contains("lab-denied"));
        let count = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        count.with_context(|| format!("no count in {text}"))
    }

    /// Calls once from a port of its own; gives the client.
    fn call(&mut self, from: &str) -> anyhow::Result<(SocketAddr, bool)> {
        self.port += 1;
        let client = SocketAddr::from((self.lab.pod(from).ipv4, self.port));
        let mut curl = self.lab.command(from, "curl");
        curl.args([
            "-sS",
            "--max-time",
            "0.3",
            "--local-port",
            &self.port.to_string(),
        ]);
        let output = curl
            .arg(format!("http://{}:{HTTP_PORT}/", self.server))
            .output()?;
        Ok((client, output.status.success()))
    }

    /// Calls until a call is shown with the drop explained for certain.
    fn is_denied(&mut self, from: &str) -> anyhow::Result<SocketAddr> {
        let mut client = None;
        for _ in 0..PORTS / 4 {
            let before = self.dropped()?;
            let (caller, answered) = self.call(from)?;
            ensure!(!answered && self.dropped()? > before, "{from} was answered");
            wait_until(|| Ok(self.drop_of(caller)?.is_none().then(|| format!("{caller}"))))?;
            if self.drop_of(caller)? == Some(true) {
                client = Some(caller);
                break;
            }
        }
        client.with_context(|| format!("no drop of {from} was certain"))
    }

    /// Whether a drop of the client's packets is shown, and whether it is explained for certain.
    fn drop_of(&self, client: SocketAddr) -> anyhow::Result<Option<bool>> {
        let trace = Trace::read(self.watch.output().lines())?;
        let client = client.to_string();
        let mut drops = trace.packets.iter().filter_map(|packet| {
            let from = packet.hops.first()?.src.to_string() == client;
            let drop = packet.drop.as_ref().filter(|_| from)?;
            Some(drop.rule_info.as_ref().is_some_and(|info| info.certain))
        });
        Ok(drops.next())
    }
}

fn ipset(lab: &Lab, words: &str) -> anyhow::Result<()> {
    let mut ipset = lab.command("node1", "ipset");
    lab.run(ipset.args(words.split(' '))).map(drop)
}

fn policy(number: u16, proxy: Proxy) -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config {
        proxy,
        ..Config::default()
    })?;
    let server = lab.pod("b1").ipv4;
    let (a1, a2) = (lab.pod("a1").ipv4, lab.pod("a2").ipv4);
    for words in [
        "create lab-allowed hash:net",
        "create lab-denied hash:ip,port,net",
        &format!("add lab-allowed {a2}"),
        &format!("add lab-denied {a1},tcp:{HTTP_PORT},{server}/31"),
        &format!("add lab-denied {a2},tcp:{HTTP_PORT},{server}/31"),
    ] {
        ipset(&lab, words)?;
    }
    for (set, target) in [(DENIED, "DROP"), (ALLOWED, "ACCEPT")] {
        let rule = format!("-I FORWARD -p tcp {set} -j {target}");
        lab.run(lab.iptables("node1").args(rule.split(' ')))?;
    }
    let port = FIRST_PORT + PORTS * number;
    let filter = format!(
        "portrange {port}-{} and ({})",
        port + PORTS - 1,
        process::whole_lab(&lab)
    );
    let watch = Running::watch_in(&lab, ["--json", &filter])?;
    let mut policy = Policy {
        lab: &lab,
        watch,
        port,
        server,
    };
    let denied = policy.is_denied("a1")?;
    let before = policy.dropped()?;
    let (allowed, answered) = policy.call("a2")?;
    ensure!(answered && policy.dropped()? == before, "a2 was not let in");
    // The other way round; the rules stay as they are.
    policy.ipset(&format!("del lab-denied {a1},tcp:{HTTP_PORT},{server}/31"))?;
    policy.ipset(&format!("del lab-allowed {a2}"))?;
    let (let_in, answered) = policy.call("a1")?;
    ensure!(answered && policy.dropped()? == before, "a1 was not let in");
    let shut_out = policy.is_denied("a2")?;
    wait_until(|| {
        let trace = Trace::read(policy.watch.output().lines())?;
        Ok(trace
            .flow("tcp", let_in)
            .is_err()
            .then(|| "not all is over".to_owned()))
    })?;
    let trace = policy.watch.stop()?;
    for client in [allowed, let_in] {
        ensure!(
            trace.flow("tcp", client)?.state == State::Closed,
            "{client}"
        );
    }
    for client in [denied, shut_out] {
        let flow = trace.flow("tcp", client)?;
        let packets = trace.packets_of(flow);
        let drop = packets.iter().find_map(|packet| packet.drop.as_ref());
        let rule = drop.and_then(|drop| drop.rule.as_ref());
        let last = rule.and_then(|rule| rule.last());
        let last = last.with_context(|| format!("no rule: {packets:#?}"))?;
        ensure!(
            last.text.contains(DENIED) && last.text.contains("DROP"),
            "{last:#?}"
        );
    }
    lab.down()
}

#[test]
fn iptables_nft() -> anyhow::Result<()> {
    policy(0, Proxy::IptablesNft)
}

#[test]
fn iptables_legacy() -> anyhow::Result<()> {
    policy(1, Proxy::IptablesLegacy)
}
