//! The lab's server: `lab-server NAME HTTP_PORT DNS_PORT [ADDRESS]`, see [`tracer_tests::server`].

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, http_port, dns_port, address) = match arguments.as_slice() {
        [name, http, dns] => (name, http, dns, None),
        [name, http, dns, address] => (name, http, dns, Some(address)),
        _ => anyhow::bail!("usage: lab-server NAME HTTP_PORT DNS_PORT [ADDRESS]"),
    };
    let only = address.map(|text| {
        text.parse::<std::net::IpAddr>()
            .with_context(|| format!("not an address: {text:?}"))
    });
    let port = |text: &str| {
        text.parse()
            .with_context(|| format!("not a port: {text:?}"))
    };
    let ports = [port(http_port)?, port(dns_port)?];
    tracer_tests::server::serve(name, ports, only.transpose()?)
}
