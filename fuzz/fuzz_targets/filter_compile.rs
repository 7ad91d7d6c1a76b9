//! Filters to programs, and programs against the filters' meaning.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tracer::filter::{Filter, Subject};
use tracer_common::{
    address::{from_bytes, from_ipv4},
    filter::{MAX_TERMS, Program},
};

/// A hop whose values are drawn from few, so that filters do hold.
#[derive(Arbitrary, Debug)]
struct Hop {
    source: u8,
    destination: u8,
    source_port: u8,
    destination_port: u8,
    netns: bool,
    device: bool,
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    ipv6: bool,
    protocol: u8,
    hops: [Hop; 3],
    /// Last, so that it is the rest of the fuzzer's bytes as they are.
    text: &'a str,
}

fn subject(hop: &Hop, ipv6: bool, protocol: u8) -> Subject {
    let address = |last| {
        if ipv6 {
            from_bytes([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
        } else {
            from_ipv4([10, 96, 0, last])
        }
    };
    let device = if hop.device {
        *b"eth0\0\0\0\0"
    } else {
        *b"cni0\0\0\0\0"
    };
    Subject {
        source: address(hop.source),
        destination: address(hop.destination),
        device_name: [u64::from_ne_bytes(device), 0],
        cgroup: 0,
        netns: u32::from(hop.netns) + 1,
        source_port: hop.source_port.into(),
        destination_port: hop.destination_port.into(),
        protocol,
        ip_version: if ipv6 { 6 } else { 4 },
    }
}

fn assert_well_formed(program: &Program) {
    let count = program.count as usize;
    assert!(count <= MAX_TERMS);
    for (index, term) in program.terms.iter().enumerate().take(count) {
        for target in [term.on_true, term.on_false].map(usize::from) {
            assert!(target >= 0xfe || (target > index && target < count));
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let namespaces = BTreeMap::from([("pod".to_owned(), vec![1]), ("host".to_owned(), vec![1, 2])]);
    let Ok(filter) = Filter::parse(input.text) else {
        return;
    };
    let Ok(resolved) = filter.resolve(&namespaces) else {
        return;
    };
    let compiled = resolved.compile();
    assert_well_formed(&compiled.program);
    assert!(!compiled.to_string().is_empty());

    let hops: Vec<Subject> = input
        .hops
        .iter()
        .map(|hop| subject(hop, input.ipv6, input.protocol))
        .collect();
    let matches = resolved.matches_flow(&hops);
    let found = hops.iter().any(|hop| compiled.program.matches(hop));
    assert!(found || !matches, "missed by {compiled}");
    if compiled.exact {
        assert_eq!(found, matches, "{compiled}");
    }
    if compiled.program.negative != 0 && matches {
        assert!(
            hops.iter().all(|hop| compiled.program.matches(hop)),
            "{compiled}"
        );
    }
});
