//! Whether legacy iptables' rules are still the same, without listing them.
//!
//! x_tables tells nobody when a table is replaced, and numbers no versions. The size of a table says
//! too little: an endpoint that takes another's place leaves it as it is. So the table is asked for as
//! the kernel has it (`IPT_SO_GET_ENTRIES`), and what is hashed of that leaves out the counters. That is
//! one copy in memory, some microseconds for a hundred rules, where `iptables-legacy-save` starts a
//! program, has the same table copied, and decodes it.
//!
//! Asked of the calling thread's namespace. Tables are named by `ip_tables_names`, which lists those
//! that exist: asking for another one would have the kernel create it, or load its module.
//!
//! The layouts (`struct ipt_entry`, `struct ip6t_entry`) are part of the kernel's interface and as old as
//! iptables.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::net::{AddressFamily, Protocol, SocketType, ipproto, socket};

use super::Family;

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// Bytes of a table's name, with its end.
const NAME: usize = 32;
/// `struct ipt_getinfo`: the name, 12 numbers, the count of entries, the size.
const INFO: usize = NAME + 13 * 4;
const INFO_SIZE: usize = NAME + 12 * 4;
/// `struct ipt_get_entries` up to the entries, which are aligned to 8.
const ENTRIES: usize = 40;
/// The largest table that is asked for: some 300,000 rules.
const LARGEST: u32 = 256 << 20;
/// How often a table that changes while it is asked for is asked for again.
const ATTEMPTS: usize = 4;

/// A hash of all legacy tables of a family; `None` where there are none.
///
/// # Errors
/// When the kernel does not answer; this needs `CAP_NET_ADMIN`.
pub fn fingerprint(family: Family) -> io::Result<Option<u64>> {
    let names = tables(family)?;
    if names.is_empty() {
        return Ok(None);
    }
    let socket = open(family)?;
    let mut hash = DefaultHasher::new();
    for name in names {
        name.hash(&mut hash);
        let mut entries = entries(&socket, family, &name)?;
        without_counters(&mut entries, family);
        entries.hash(&mut hash);
    }
    Ok(Some(hash.finish()))
}

/// The tables that exist, sorted.
pub(super) fn tables(family: Family) -> io::Result<Vec<String>> {
    let path = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}

fn open(family: Family) -> io::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let protocol: Option<Protocol> = Some(ipproto::RAW);
    Ok(socket(family, SocketType::RAW, protocol)?)
}

/// The table as the kernel has it.
fn entries(socket: &OwnedFd, family: Family, name: &str) -> io::Result<Vec<u8>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut info = vec![0; INFO];
        put_name(&mut info, name)?;
        get(socket, family, GET_INFO, &mut info)?;
        let size = info.get(INFO_SIZE..).and_then(|size| size.first_chunk());
        let size = size.map_or(0, |size| u32::from_ne_bytes(*size));
        if size > LARGEST {
            return Err(io::Error::other(format!("the table {name} is too large")));
        }
        let mut answer = vec![0; ENTRIES + size as usize];
        put_name(&mut answer, name)?;
        answer[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        match get(socket, family, GET_ENTRIES, &mut answer) {
            Ok(()) => return Ok(answer.split_off(ENTRIES)),
            // It has another size by now.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

fn put_name(buffer: &mut [u8], name: &str) -> io::Result<()> {
    let name = name.as_bytes();
    match buffer.get_mut(..name.len()) {
        Some(place) if name.len() < NAME => {
            place.copy_from_slice(name);
            Ok(())
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

fn get(socket: &OwnedFd, family: Family, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let length = buffer.len();
    let mut length = libc::socklen_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: the buffer is valid for `length` bytes, which the kernel does not exceed, and any
    // bytes are valid in it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Overwrites each entry's counters.
fn without_counters(entries: &mut [u8], family: Family) {
    // Within an entry: where the next one begins, and the counters.
    let (next_at, counters_at) = match family {
        Family::V4 => (90, 96),
        Family::V6 => (142, 152),
    };
    let mut rest = entries;
    while rest.len() >= counters_at + 16 {
        rest[counters_at..counters_at + 16].fill(0);
        let next = u16::from_ne_bytes([rest[next_at], rest[next_at + 1]]);
        let next = usize::from(next);
        // What cannot be an entry ends the list.
        if next < counters_at + 16 || next > rest.len() {
            return;
        }
        rest = &mut rest[next..];
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use proptest::prelude::*;

    use super::*;
    use crate::node::testing::{in_new_netns, root, run};

    #[test]
    fn what_does_not_exist_is_not_made_by_asking() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            for family in [Family::V4, Family::V6, Family::V4] {
                assert_eq!(fingerprint(family).unwrap(), None);
            }
        });
    }

    #[test]
    fn it_changes_with_the_rules_and_not_with_the_counters() {
        if !root() {
            return;
        }
        in_new_netns(|| {
            for (family, tool, local, ends) in [
                (
                    Family::V4,
                    "iptables-legacy",
                    "127.0.0.1:9",
                    ["10.0.0.1", "10.0.0.2"],
                ),
                (
                    Family::V6,
                    "ip6tables-legacy",
                    "[::1]:9",
                    ["fd00::1", "fd00::2"],
                ),
            ] {
                let now = || fingerprint(family).unwrap();
                let [first, second] = ends;
                if !run(&format!("{tool} -A OUTPUT -d {first} -j ACCEPT")) {
                    return println!("skipped: {tool} does not work here");
                }
                let one = now();
                assert!(one.is_some());
                let filter = || entries(&open(family).unwrap(), family, "filter").unwrap();
                let before = filter();
                assert!(run("ip link set lo up"));
                let local: SocketAddr = local.parse().unwrap();
                let socket = UdpSocket::bind(SocketAddr::new(local.ip(), 0)).unwrap();
                socket.send_to(b"counted", local).unwrap();
                assert_ne!(filter(), before);
                assert_eq!(now(), one, "packets change nothing");
                // Another rule of the same size.
                assert!(run(&format!("{tool} -R OUTPUT 1 -d {second} -j ACCEPT")));
                let other = now();
                assert_ne!(other, one);
                assert!(run(&format!("{tool} -R OUTPUT 1 -d {first} -j ACCEPT")));
                assert_eq!(now(), one);
                assert!(run(&format!("{tool} -P INPUT DROP")));
                assert_ne!(now(), one);
            }
        });
    }

    proptest! {
        #[test]
        fn any_entries_are_walked(mut bytes in prop::collection::vec(any::<u8>(), 0..600), six: bool) {
            let family = if six { Family::V6 } else { Family::V4 };
            without_counters(&mut bytes, family);
        }
    }
}
