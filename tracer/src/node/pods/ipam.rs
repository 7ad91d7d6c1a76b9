//! What the IPAM plugin host-local keeps of each address that it gave out: a file named as the
//! address in `/var/lib/cni/networks/NETWORK`, with the sandbox's id and, since plugins 0.8, the
//! device's name in it. It says no names, so it serves where libcni's cache is missing.

use std::net::IpAddr;

use super::{ParseError, identity::is_container_id};

/// An address that was given to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// The sandbox's id.
    pub sandbox: String,
}

/// The address that a file's name is; `None` for the plugin's other files.
#[must_use]
pub fn address_of(file_name: &str) -> Option<IpAddr> {
    file_name.parse().ok()
}

/// Reads the file of an address.
///
/// # Errors
/// When it holds no sandbox's id.
pub fn parse(address: IpAddr, bytes: &[u8]) -> Result<Allocation, ParseError> {
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
    let id = str::from_utf8(first).unwrap_or_default().trim();
    if !is_container_id(id) {
        return Err(ParseError::Name("the sandbox's id"));
    }
    Ok(Allocation {
        address,
        sandbox: id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_says_whose_address_it_is() {
        let root = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/cri/var/lib/cni/networks/cbr0"
        );
        let bytes = std::fs::read(format!("{root}/10.244.1.100")).unwrap();
        let address = address_of("10.244.1.100").unwrap();
        let allocation = parse(address, &bytes).unwrap();
        assert!(allocation.sandbox.starts_with("be5f355e") && allocation.sandbox.len() == 64);
        // Without the device's name, as older plugins wrote it.
        assert_eq!(parse(address, b"abc").unwrap().sandbox, "abc");
    }

    #[test]
    fn other_files_are_none() {
        assert_eq!(address_of("last_reserved_ip.0"), None);
        assert_eq!(address_of("lock"), None);
        assert!(address_of("fd00::2").is_some());
        let address = address_of("::1").unwrap();
        for hostile in [&b""[..], b"\n", b"../x\r\neth0", b"\xff\xfe", b"a b"] {
            assert!(parse(address, hostile).is_err(), "{hostile:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(allocation) = parse(IpAddr::from([0; 4]), &bytes) {
                prop_assert!(is_container_id(&allocation.sandbox));
            }
        }
    }
}
