//! Addresses, ports and the like, as `iptables-save` prints them.

use std::{fmt, net::IpAddr};

use super::super::outcome::NatRange;

/// An address with a mask. Displays as `10.0.0.0/8`, or `10.0.0.0/255.0.255.0` where the mask is no
/// prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The address.
    pub address: IpAddr,
    /// Which of its bits count.
    pub mask: Mask,
}

/// Which bits of an address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// The first ones.
    Prefix(u8),
    /// Those set here, which are not just the first ones. Of the address's family.
    Bits(IpAddr),
}

impl Network {
    /// The one address that it is, if it is one.
    #[must_use]
    pub fn host(&self) -> Option<IpAddr> {
        let Mask::Prefix(length) = self.mask else {
            return None;
        };
        (length == bits(self.address)).then_some(self.address)
    }

    /// Whether it has an address. None of the other family.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                let mask = match self.mask {
                    Mask::Prefix(length) => u32::MAX.checked_shl(32 - u32::from(length.min(32))),
                    Mask::Bits(IpAddr::V4(mask)) => Some(mask.to_bits()),
                    Mask::Bits(IpAddr::V6(_)) => return false,
                };
                differing & mask.unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                let mask = match self.mask {
                    Mask::Prefix(length) => u128::MAX.checked_shl(128 - u32::from(length.min(128))),
                    Mask::Bits(IpAddr::V6(mask)) => Some(mask.to_bits()),
                    Mask::Bits(IpAddr::V4(_)) => return false,
                };
                differing & mask.unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Reads `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASK`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, mask) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().ok()?;
        let all = bits(address);
        let mask = if mask.is_empty() {
            (!text.contains('/')).then_some(Mask::Prefix(all))?
        } else if let Some(length) = decimal::<u8>(mask) {
            (length <= all).then_some(Mask::Prefix(length))?
        } else {
            let mask: IpAddr = mask.parse().ok()?;
            (mask.is_ipv4() == address.is_ipv4()).then_some(())?;
            prefix_of(mask).map_or(Mask::Bits(mask), Mask::Prefix)
        };
        Some(Self { address, mask })
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The length of the prefix that a mask is.
fn prefix_of(mask: IpAddr) -> Option<u8> {
    let (ones, leading) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones()),
        IpAddr::V6(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones()),
    };
    (ones == leading).then(|| u8::try_from(ones).ok())?
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask {
            Mask::Prefix(length) => write!(f, "{}/{length}", self.address),
            Mask::Bits(mask) => write!(f, "{}/{mask}", self.address),
        }
    }
}

/// First and last of a range of numbers. Displays as `80` or `80:90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range<T> {
    /// The first.
    pub first: T,
    /// The last.
    pub last: T,
}

impl<T: Copy + PartialOrd + std::str::FromStr> Range<T> {
    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: T) -> bool {
        self.first <= number && number <= self.last
    }

    /// Reads `80`, `80:90`, `80:` or `:90`, where `lowest` and `highest` stand for what is left out.
    #[must_use]
    pub fn parse(text: &str, lowest: T, highest: T) -> Option<Self> {
        let Some((first, last)) = text.split_once(':') else {
            let number = decimal(text)?;
            return Some(Self {
                first: number,
                last: number,
            });
        };
        let number = |text: &str, default: T| {
            if text.is_empty() {
                Some(default)
            } else {
                decimal(text)
            }
        };
        Some(Self {
            first: number(first, lowest)?,
            last: number(last, highest)?,
        })
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.first == self.last {
            Ok(())
        } else {
            write!(f, ":{}", self.last)
        }
    }
}

/// A value with the bits that count: `0x4000/0x4000`, or `0x1` where all do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Masked {
    /// The value.
    pub value: u32,
    /// The bits.
    pub mask: u32,
}

impl Masked {
    /// Reads `VALUE` or `VALUE/MASK`, decimal or with `0x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (value, number(mask)?),
            None => (text, u32::MAX),
        };
        Some(Self {
            value: number(value)?,
            mask,
        })
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value)?;
        if self.mask == u32::MAX {
            Ok(())
        } else {
            write!(f, "/{:#x}", self.mask)
        }
    }
}

/// A number as decimal digits, without sign.
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A number as decimal digits, or as hexadecimal ones after `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with(['+', '-']) => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => decimal(text),
    }
}

/// Reads what `--to-destination` and `--to-source` take: `10.0.0.1`, `10.0.0.1-10.0.0.9:80-90`,
/// `:80`, `[fd00::1]:80`.
pub(super) fn nat_range(text: &str) -> Option<NatRange> {
    let (addresses, ports) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let ports = after.strip_prefix(':');
        (ports.is_some() || after.is_empty()).then_some(())?;
        (inside, ports)
    } else if text.matches(':').count() > 1 {
        (text, None)
    } else {
        text.split_once(':')
            .map_or((text, None), |(addresses, ports)| (addresses, Some(ports)))
    };
    let addresses = if addresses.is_empty() {
        None
    } else {
        Some(span::<IpAddr>(addresses, |text| text.parse().ok())?)
    };
    let ports = match ports {
        Some(ports) => Some(span::<u16>(ports, decimal)?),
        None => None,
    };
    let same_family = addresses.is_none_or(|(first, last)| first.is_ipv4() == last.is_ipv4());
    (same_family && (addresses.is_some() || ports.is_some()))
        .then_some(NatRange { addresses, ports })
}

/// Reads `A` or `A-B`.
pub(super) fn span<T: Copy>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    match text.split_once('-') {
        Some((first, last)) => Some((read(first)?, read(last)?)),
        None => read(text).map(|one| (one, one)),
    }
}

/// Writes what [`nat_range`] reads, as the tool prints it.
pub(super) fn put_nat_range(out: &mut impl fmt::Write, range: &NatRange) -> fmt::Result {
    let bracketed = range.ports.is_some() && range.addresses.is_some_and(|(ip, _)| ip.is_ipv6());
    if let Some((first, last)) = range.addresses {
        out.write_str(if bracketed { "[" } else { "" })?;
        put_span(out, first, last)?;
        out.write_str(if bracketed { "]" } else { "" })?;
    }
    if let Some((first, last)) = range.ports {
        out.write_char(':')?;
        put_span(out, first, last)?;
    }
    Ok(())
}

/// Writes `A` or `A-B`.
pub(super) fn put_span<T: fmt::Display + PartialEq + Copy>(
    out: &mut impl fmt::Write,
    first: T,
    last: T,
) -> fmt::Result {
    write!(out, "{first}")?;
    if first == last {
        Ok(())
    } else {
        write!(out, "-{last}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::net::Ipv4Addr;

    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network = Network::parse(network).unwrap();
        network.contains(address.parse().unwrap())
    }

    #[test]
    fn networks_contain_what_their_mask_says() {
        assert!(contains("10.0.0.0/8", "10.9.9.9") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("0.0.0.0/0", "255.0.0.1") && contains("::/0", "ff::1"));
        assert!(contains("10.0.7.0/255.0.255.0", "10.9.7.0"));
        assert!(!contains("10.0.7.0/255.0.255.0", "10.9.8.0"));
        assert!(contains("fd00::1", "fd00::1") && !contains("fd00::1/128", "fd00::2"));
        assert!(!contains("0.0.0.0/0", "::1") && !contains("::/0", "10.0.0.1"));
    }

    #[test]
    fn texts_of_the_tool_come_back() {
        for text in [
            "10.0.0.0/8",
            "1.2.3.4/32",
            "1.2.3.4/255.0.255.0",
            "fd00::/8",
            "::/0",
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        let ranges = [
            "10.0.0.1",
            "10.0.0.1:80",
            "10.0.0.1-10.0.0.9:80-90",
            ":80",
            "fd00::1",
            "fd00::1-fd00::9",
            "[fd00::1]:80",
            "[fd00::1-fd00::2]:80-81",
        ];
        for text in ranges {
            let mut out = String::new();
            put_nat_range(&mut out, &nat_range(text).unwrap()).unwrap();
            assert_eq!(out, text);
        }
        for text in ["0x4000/0x4000", "0x1", "0x0/0xff"] {
            assert_eq!(Masked::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Masked::parse("16/255").unwrap().to_string(), "0x10/0xff");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "/",
            "1.2.3.4/",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/::",
            "a",
            "1.2.3.4/+8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        for text in [
            "",
            ":",
            "1.2.3.4:",
            "1.2.3.4:x",
            "[::1",
            "[::1]x",
            "1.2.3.4-::1",
            "1.2.3.4:1:2",
        ] {
            assert_eq!(nat_range(text), None, "{text}");
        }
        for text in ["", "0x", "0x+1", "-1", "+1", "1/", "0x100000000"] {
            assert_eq!(Masked::parse(text), None, "{text}");
        }
        assert_eq!(Range::<u16>::parse("70000", 0, u16::MAX), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_not(text in "[0-9a-f:./x\\[\\]+-]{0,24}") {
            let _ = (Network::parse(&text), nat_range(&text), Masked::parse(&text));
            let _ = Range::<u16>::parse(&text, 0, u16::MAX);
        }

        #[test]
        fn a_prefix_is_its_mask(address: u32, length in 0u8..=32, other: u32) {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let (address, mask) = (Ipv4Addr::from_bits(address), Ipv4Addr::from_bits(mask));
            let network = Network::parse(&format!("{address}/{mask}")).unwrap();
            prop_assert_eq!(network.mask, Mask::Prefix(length));
            let same = address.to_bits() & mask.to_bits() == other & mask.to_bits();
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(other).into()), same);
        }
    }
}
