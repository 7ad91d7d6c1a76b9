//! IPVS's table as the kernel prints it, from any text, and packets that meet it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::node::{
    ipvs::Table,
    rules::{
        evaluate::explain,
        outcome::Observed,
        subject::{Elsewhere, Hook, Subject},
    },
};

fuzz_target!(|text: &str| {
    let table = Table::parse(text);
    let servers = table.servers();
    let real: usize = servers.iter().map(|server| server.real.len()).sum();
    assert!(servers.len() + real <= text.lines().count());
    for service in table.services(|ip| ip.is_loopback()) {
        for endpoint in &service.endpoints {
            let called = service.frontends.first().and_then(|it| it.address());
            let called = called.unwrap_or(endpoint.address.ip());
            let subject = Subject {
                destination_port: Some(80),
                ..Subject::new(Hook::Input, endpoint.address.ip(), called, service.protocol)
            };
            let observed = Observed::Destination(endpoint.address);
            let explanation = explain(&[&table], &subject, &Elsewhere, observed);
            for (_, path) in &explanation.paths {
                assert!(!path.steps.is_empty());
            }
        }
    }
    for server in servers {
        assert!(!server.to_string().is_empty());
    }
});
