//! The lab's server: `lab-server NAME HTTP_PORT DNS_PORT`, see [`tracer_tests::server`].

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, http_port, dns_port] = arguments.as_slice() else {
        anyhow::bail!("usage: lab-server NAME HTTP_PORT DNS_PORT");
    };
    let port = |text: &str| {
        text.parse()
            .with_context(|| format!("not a port: {text:?}"))
    };
    tracer_tests::server::serve(name, port(http_port)?, port(dns_port)?)
}
