//! The network of an entry of the access list: an address whose host bits are zero, and the length of its prefix.
use std::{fmt, net::IpAddr, str::FromStr};

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The length of its prefix in bits.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns true if the network is one address.
    pub(crate) fn is_host(self) -> bool {
        self.bits == width(self.address)
    }

    /// Returns true if `address` is in the network. An IPv4-mapped IPv6 address counts as IPv4.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && left_aligned(address) & mask(self.bits) == left_aligned(self.address)
    }
}

/// Why a text is not a [`Network`]. A message starts with the text and continues with this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Neither an address nor an address with the length of a prefix.
    Malformed,
    /// The prefix is longer than an address.
    TooManyBits {
        /// The number of bits of an address.
        most: u8,
    },
    /// A bit after the prefix is set.
    HostBits,
    /// `::ffff:a.b.c.d`.
    MappedAddress,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("is neither an IP address nor a CIDR"),
            Self::TooManyBits { most } => write!(f, "has more than {most} prefix bits"),
            Self::HostBits => f.write_str("has bits set beyond its prefix"),
            Self::MappedAddress => f.write_str("is an IPv4 address in IPv6 notation: write it as IPv4"),
        }
    }
}

impl std::error::Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;

    /// Parses `10.0.0.0/8`, `2001:db8::/32`, or an address, which is a network of one address.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        let most = width(address);
        let bits = bits.map_or(Ok(most), prefix)?;
        if bits > most {
            return Err(NetworkError::TooManyBits { most });
        }
        if address.to_canonical() != address {
            return Err(NetworkError::MappedAddress);
        }
        if left_aligned(address) & !mask(bits) != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { address, bits })
    }
}

/// Only digits, without a leading zero, as in the API server's `isCIDR`: `parse` would accept a sign.
fn prefix(digits: &str) -> Result<u8, NetworkError> {
    let plain = digits.bytes().all(|octet| octet.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0');
    digits.parse().ok().filter(|_| plain && !padded).ok_or(NetworkError::Malformed)
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number whose highest bit is the first bit of the address, for both families.
fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_networks() {
        let check = |text: &str, expected: Result<u8, NetworkError>| {
            assert_eq!(text.parse().map(Network::bits), expected, "{text}");
        };
        check("10.0.0.0/8", Ok(8));
        check("0.0.0.0/0", Ok(0));
        check("fd00::/8", Ok(8));
        check("127.0.0.1", Ok(32));
        check("2001:db8::1", Ok(128));
        check("10.1.0.0/8", Err(NetworkError::HostBits));
        check("fd00::1/64", Err(NetworkError::HostBits));
        check("10.0.0.0/33", Err(NetworkError::TooManyBits { most: 32 }));
        check("::ffff:10.0.0.0/104", Err(NetworkError::MappedAddress));
        for text in
            ["10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/", "10.0.0.0/256", "example.com", "", "010.0.0.0/8"]
        {
            check(text, Err(NetworkError::Malformed));
        }
        for text in ["/", "10.0.0/8", "a/8", "::/0/0"] {
            check(text, Err(NetworkError::Malformed));
        }
        check("::/129", Err(NetworkError::TooManyBits { most: 128 }));
    }

    #[test]
    fn addresses_in_a_network() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{address} in {network:?}");
        };
        check("10.0.0.0/8", "10.1.2.3", true);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::1", "2001:db8::1", true);
        check("2001:db8::1", "2001:db8::2", false);
    }
}
