//! The values after the words: addresses, networks, ports, protocols, names.
//!
//! Each function takes one word and gives its value, or the sentence that says what to write.
//! Numbers are decimal; nothing is looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    error::shown,
    expression::{Network, Version},
    words,
};

/// The longest name of a device, in bytes (`IFNAMSIZ` less the NUL).
const DEVICE_NAME: usize = 15;

/// A host's address: `10.0.0.1`, `2001:db8::1`, `[2001:db8::1]`.
pub(super) fn host(word: &str) -> Result<Network, String> {
    if let Some(address) = address(word)? {
        return Ok(Network::host(address));
    }
    if word.contains('/') {
        return Err(format!(
            "a host has no prefix length; for a network write {}",
            shown(&format!("net {word}"))
        ));
    }
    if let Some((address, port)) = address_and_port(word) {
        return Err(format!(
            "an address and its port are two tests; write `host {address} and port {port}`"
        ));
    }
    if word.parse::<u64>().is_ok() {
        return Err(format!(
            "{} is not an address; if it is a port, write {}",
            shown(word),
            shown(&format!("port {word}"))
        ));
    }
    if looks_like_ipv4(word) {
        let network = format!("net {word}");
        return Err(if short_ipv4(word).is_some() {
            format!(
                "{} is not a whole address; for a network write {}",
                shown(word),
                shown(&network)
            )
        } else {
            format!(
                "{} is not an IPv4 address: four numbers from 0 to 255",
                shown(word)
            )
        });
    }
    if word.contains(':') {
        return Err(format!("{} is not an IPv6 address", shown(word)));
    }
    Err(format!(
        "{} is not an address, and names are not looked up; write the address",
        shown(word)
    ))
}

/// A network: `10.96.0.0/12`, `2001:db8::/32`, or the leading numbers of an IPv4 one: `10.96`,
/// with or without a length.
pub(super) fn net(word: &str) -> Result<Network, String> {
    let Some((text, length)) = word.split_once('/') else {
        return net_without_length(word);
    };
    let address = match address(text)? {
        Some(address) => address,
        None => match short_ipv4(text) {
            Some((address, _)) => address.into(),
            None => {
                return Err(format!(
                    "{} is not an address; a network is ADDRESS/LENGTH, as in `net 10.96.0.0/12`",
                    shown(text)
                ));
            }
        },
    };
    let version = Version::of(address);
    let network = length
        .parse()
        .ok()
        .and_then(|length| Network::containing(address, length));
    let Some(network) = network else {
        if length.is_empty() {
            return Err(format!(
                "the prefix length is missing after `/`; for {version} it is a number from 0 to {}",
                version.bits()
            ));
        }
        return Err(format!(
            "{} is not a prefix length; for {version} it is a number from 0 to {}",
            shown(length),
            version.bits()
        ));
    };
    if network.address() != address.to_canonical() {
        return Err(format!(
            "the address has bits outside its prefix; write `{network}`, or `{}`",
            Network::host(address)
        ));
    }
    Ok(network)
}

fn net_without_length(word: &str) -> Result<Network, String> {
    if let Some(address) = address(word)? {
        return Err(format!(
            "a network needs its prefix length, as in `net 10.96.0.0/12`; for one address write \
             `{}`",
            Network::host(address)
        ));
    }
    short_ipv4(word)
        .and_then(|(address, length)| Network::containing(address.into(), length))
        .ok_or_else(|| {
            format!(
                "{} is not a network; write ADDRESS/LENGTH, as in `net 10.96.0.0/12`",
                shown(word)
            )
        })
}

/// What stands where no word says which of both it is.
pub(super) fn host_or_net(word: &str) -> Result<Network, String> {
    if word.contains('/') {
        net(word)
    } else {
        host(word)
    }
}

/// An address; `None` when the word is none.
fn address(word: &str) -> Result<Option<IpAddr>, String> {
    let bare = word
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    if let Some(inner) = bare {
        if let Ok(address) = inner.parse::<Ipv6Addr>() {
            return Ok(Some(address.into()));
        }
        if inner.parse::<Ipv4Addr>().is_ok() {
            return Err(format!(
                "brackets are for IPv6 addresses; write {}",
                shown(inner)
            ));
        }
    }
    let text = bare.unwrap_or(word);
    if let Some((address, zone)) = text.split_once('%')
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return Err(format!(
            "packets carry no zone; write {}",
            shown(&format!("host {address} and dev {zone}"))
        ));
    }
    Ok(text.parse().ok())
}

/// `10.0.0.1:80` and `[::1]:80`.
fn address_and_port(word: &str) -> Option<(IpAddr, u16)> {
    let address: std::net::SocketAddr = word.parse().ok()?;
    Some((address.ip(), address.port()))
}

/// Numbers and dots only.
fn looks_like_ipv4(word: &str) -> bool {
    word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// The first one to three numbers of an IPv4 address, and how many bits they are.
fn short_ipv4(word: &str) -> Option<(Ipv4Addr, u8)> {
    let mut octets = [0; 4];
    let mut length = 0;
    for (index, part) in word.split('.').enumerate() {
        if index == 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        octets[index] = part.parse().ok()?;
        length += 8;
    }
    Some((octets.into(), length))
}

/// A port, by number or by the name of its service.
pub(super) fn port(word: &str) -> Result<u16, String> {
    if let Some(port) = words::service(word) {
        return Ok(port);
    }
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        return word
            .parse()
            .map_err(|_| format!("port {} is out of range; ports are 0 to 65535", shown(word)));
    }
    if let Some((low, high)) = word.split_once('-')
        && port(low).is_ok()
        && port(high).is_ok()
    {
        return Err(format!(
            "{} is a range; write {}",
            shown(word),
            shown(&format!("portrange {word}"))
        ));
    }
    if let Ok(network) = host_or_net(word) {
        return Err(format!("{} is not a port; write `{network}`", shown(word)));
    }
    Err(format!(
        "{} is neither a port number nor the name of a known service; write the number",
        shown(word)
    ))
}

/// `8000-8080`, both ends included; a single port is a range of one.
pub(super) fn port_range(word: &str) -> Result<(u16, u16), String> {
    let single = port(word);
    // The name of a service may itself hold a hyphen.
    let (Err(_), Some((low, high))) = (&single, word.split_once('-')) else {
        return single.map(|port| (port, port));
    };
    if low.is_empty() || high.is_empty() {
        return Err("a range has two ends, as in `portrange 8000-8080`".to_owned());
    }
    let (low, high) = (port(low)?, port(high)?);
    if low > high {
        return Err(format!(
            "the range is the wrong way round; write `portrange {high}-{low}`"
        ));
    }
    Ok((low, high))
}

/// An IP protocol, by number or name.
pub(super) fn protocol(word: &str) -> Result<u8, String> {
    words::protocol(word)
        .or_else(|| word.parse().ok())
        .ok_or_else(|| {
            format!(
                "{} is not a protocol; write its number, 0 to 255, or a name such as tcp, udp, \
                 icmp, icmp6, sctp, gre",
                shown(word)
            )
        })
}

/// The name of a network namespace. What names there are, the node knows; here any does.
pub(super) fn netns(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("a namespace's name cannot be empty; `tracer names` lists them".to_owned());
    }
    Ok(name.to_owned())
}

/// A pod: `NAMESPACE/NAME`, or `NAME` for one in the namespace `default`, as for `kubectl`. What pods
/// there are, the node knows.
pub(super) fn pod(name: &str) -> Result<String, String> {
    let (namespace, pod) = name.split_once('/').unwrap_or(("default", name));
    if namespace.is_empty() || pod.is_empty() || pod.contains('/') {
        return Err(format!(
            "{} does not name a pod; write NAMESPACE/NAME, or NAME for one in `default`",
            shown(name)
        ));
    }
    Ok(format!("{namespace}/{pod}"))
}

/// The name of a network device.
pub(super) fn device(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(format!(
            "{} cannot be a device's name; `tracer names` lists them",
            shown(name)
        ));
    }
    if name.len() > DEVICE_NAME {
        return Err(format!(
            "{} is longer than a device's name can be ({DEVICE_NAME} bytes); `tracer names` lists \
             them",
            shown(name)
        ));
    }
    Ok(name.to_owned())
}
