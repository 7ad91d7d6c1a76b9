//! Tests as the kernel's terms.

use std::net::IpAddr;

use tracer_common::{
    address::{self, Address},
    filter as terms,
    filter::Term,
};

use super::expression::{Direction, Network};

/// A test of the address.
pub(super) fn within(direction: Direction, network: Network) -> Term {
    let (value, mask) = value_and_mask(network);
    Term {
        kind: match direction {
            Direction::Either => terms::HOST_EITHER,
            Direction::Source => terms::HOST_SOURCE,
            Direction::Destination => terms::HOST_DESTINATION,
        },
        value,
        mask,
        ..Term::default()
    }
}

/// A test of the port.
pub(super) fn port(direction: Direction, low: u16, high: u16) -> Term {
    Term {
        kind: match direction {
            Direction::Either => terms::PORT_EITHER,
            Direction::Source => terms::PORT_SOURCE,
            Direction::Destination => terms::PORT_DESTINATION,
        },
        low,
        high,
        ..Term::default()
    }
}

/// A test of the device's name.
pub(super) fn device(name: &str) -> Term {
    let mut bytes = [0; 16];
    // The parser has limited names to fifteen bytes.
    for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    Term {
        kind: terms::DEVICE,
        value: address::from_bytes(bytes),
        ..Term::default()
    }
}

fn value_and_mask(network: Network) -> (Address, Address) {
    let length = u32::from(network.length());
    match network.address() {
        IpAddr::V4(ip) => (
            address::from_ipv4(ip.octets()),
            address::prefix_mask(96 + length),
        ),
        IpAddr::V6(ip) => (
            address::from_bytes(ip.octets()),
            address::prefix_mask(length),
        ),
    }
}
