//! The access list (ntp.conf's `restrict`): an address and a source port go in; their flags come out.
//!
//! The longest prefix that contains the address decides. Flags of shorter prefixes are not inherited. IPv4 and IPv6
//! have a table each. A template (`restrict source`) is an entry for each present address of the upstreams.
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The source port of NTP daemons.
const NTP_PORT: u16 = 123;

/// The flags of an address. Flags of ntp.conf that have no effect here (`nomodify`, `nopeer`, `notrap` and others:
/// there is nothing to modify, to mobilise or to trap) have no field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestrictFlags {
    /// Drop everything.
    pub ignore: bool,
    /// Drop time requests.
    pub noserve: bool,
    /// Drop queries (mode 6).
    pub noquery: bool,
    /// Drop requests without valid authentication.
    pub notrust: bool,
    /// Drop requests of another version than 4.
    pub version: bool,
    /// Limit the rate per address.
    pub limited: bool,
    /// Answer a part of the excess with a kiss. No effect without `limited`.
    pub kod: bool,
}

impl RestrictFlags {
    fn merged(self, other: Self) -> Self {
        Self {
            ignore: self.ignore || other.ignore,
            noserve: self.noserve || other.noserve,
            noquery: self.noquery || other.noquery,
            notrust: self.notrust || other.notrust,
            version: self.version || other.version,
            limited: self.limited || other.limited,
            kod: self.kod || other.kod,
        }
    }
}

/// An entry of the access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestrictEntry {
    /// The network. `default` without a family is two entries, [`Cidr::ALL_V4`] and [`Cidr::ALL_V6`].
    pub network: Cidr,
    /// True if the entry is only for packets from source port 123. Such an entry takes precedence over one for the same
    /// network without it.
    pub ntpport: bool,
    /// The flags.
    pub flags: RestrictFlags,
}

/// The access list, in the order in which entries are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestrictTable {
    v4: Vec<Line>,
    v6: Vec<Line>,
    /// The flags for the addresses of upstreams.
    template: Option<RestrictFlags>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    prefix: u128,
    bits: u8,
    ntpport: bool,
    flags: RestrictFlags,
}

impl RestrictTable {
    /// Makes a table of `entries`, which may be in any order. Entries for the same network and port are merged into one
    /// with the flags of both. A family without a default entry gets one with `limited`, `kod` and `noquery`.
    pub fn new(entries: &[RestrictEntry]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for entry in entries {
            let table = if entry.network.address.is_ipv4() { &mut v4 } else { &mut v6 };
            add(table, entry);
        }
        let guarded = RestrictFlags { limited: true, kod: true, noquery: true, ..RestrictFlags::default() };
        for (table, all) in [(&mut v4, Cidr::ALL_V4), (&mut v6, Cidr::ALL_V6)] {
            if !table.iter().any(|line| line.bits == 0 && !line.ntpport) {
                add(table, &RestrictEntry { network: all, ntpport: false, flags: guarded });
            }
            sort(table);
        }
        Self { v4, v6, template: None }
    }

    /// Sets the flags for the addresses of upstreams; `None` for no template.
    pub fn with_template(self, flags: Option<RestrictFlags>) -> Self {
        Self { template: flags, ..self }
    }

    /// The table for the present addresses of upstreams. Each address gets an entry with the flags of the template,
    /// unless the user wrote an entry for exactly this address. Without a template the table is unchanged.
    pub fn for_upstreams(&self, addresses: &[IpAddr]) -> Self {
        let mut all = self.clone();
        let Some(flags) = self.template else { return all };
        for address in addresses.iter().map(IpAddr::to_canonical).filter(|&address| !self.has_host(address)) {
            let (table, bits) = if address.is_ipv4() { (&mut all.v4, 32) } else { (&mut all.v6, 128) };
            table.push(Line { prefix: left_aligned(address), bits, ntpport: false, flags });
        }
        sort(&mut all.v4);
        sort(&mut all.v6);
        all
    }

    /// Returns true if the replies of an upstream at `address` and `port` must be dropped, because its flags have
    /// `ignore`. The other flags do not apply to replies.
    pub fn ignores_upstream(&self, address: IpAddr, port: u16) -> bool {
        match self.template {
            Some(template) if !self.has_host(address.to_canonical()) => template.ignore,
            _ => self.flags(address, port).ignore,
        }
    }

    /// Returns true if there is an entry for exactly this address.
    fn has_host(&self, address: IpAddr) -> bool {
        let (table, bits) = if address.is_ipv4() { (&self.v4, 32) } else { (&self.v6, 128) };
        let prefix = left_aligned(address);
        table.iter().any(|line| line.bits == bits && line.prefix == prefix && !line.ntpport)
    }

    /// The flags for a packet from `address` and `port`. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn flags(&self, address: IpAddr, port: u16) -> RestrictFlags {
        let address = address.to_canonical();
        let table = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let number = left_aligned(address);
        let line = table
            .iter()
            .find(|line| number & mask(line.bits) == line.prefix && (!line.ntpport || port == NTP_PORT));
        // There is always an entry, since each table has a default. If there were none, no request would be answered.
        line.map_or(RestrictFlags { ignore: true, ..RestrictFlags::default() }, |line| line.flags)
    }
}

/// Sorts longest prefixes first, and `ntpport` before the same network without it.
fn sort(table: &mut [Line]) {
    table.sort_by_key(|line| (u8::MAX - line.bits, !line.ntpport));
}

fn add(table: &mut Vec<Line>, entry: &RestrictEntry) {
    let (prefix, bits) = (left_aligned(entry.network.address), entry.network.bits);
    let same = |line: &&mut Line| (line.prefix, line.bits, line.ntpport) == (prefix, bits, entry.ntpport);
    match table.iter_mut().find(same) {
        Some(line) => line.flags = line.flags.merged(entry.flags),
        None => table.push(Line { prefix, bits, ntpport: entry.ntpport, flags: entry.flags }),
    }
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

/// A network: an address whose host bits are zero, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Every IPv4 address.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), bits: 0 };

    /// Every IPv6 address.
    pub const ALL_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), bits: 0 };

    /// The network of `address` with a prefix of `bits` bits.
    ///
    /// # Errors
    /// If the prefix is longer than an address, if a host bit is set, or if the address is IPv4-mapped IPv6.
    pub fn new(address: IpAddr, bits: u8) -> Result<Self, CidrError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(CidrError::TooManyBits { most });
        }
        if address.to_canonical() != address {
            return Err(CidrError::MappedAddress);
        }
        if left_aligned(address) & !mask(bits) != 0 {
            return Err(CidrError::HostBits);
        }
        Ok(Self { address, bits })
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The length of its prefix in bits.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns true if `address` is in the network. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && left_aligned(address) & mask(self.bits) == left_aligned(self.address)
    }
}

/// Why something is not a [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CidrError {
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

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyBits { most } => write!(f, "has more than {most} prefix bits"),
            Self::HostBits => f.write_str("has bits set beyond its prefix"),
            Self::MappedAddress => f.write_str("is an IPv4 address in IPv6 notation: write it as IPv4"),
        }
    }
}

impl std::error::Error for CidrError {}

/// Tests write networks as `10.0.0.0/8`, or as an address alone. What users write is read by the crate `profile`.
#[cfg(test)]
impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().expect("an address");
        let all = if address.is_ipv4() { 32 } else { 128 };
        Self::new(address, bits.map_or(all, |bits| bits.parse().expect("a number of bits")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(network: &str, ntpport: bool, flags: RestrictFlags) -> RestrictEntry {
        RestrictEntry { network: network.parse().unwrap(), ntpport, flags }
    }

    const NONE: RestrictFlags = RestrictFlags {
        ignore: false,
        noserve: false,
        noquery: false,
        notrust: false,
        version: false,
        limited: false,
        kod: false,
    };
    const IGNORE: RestrictFlags = RestrictFlags { ignore: true, ..NONE };
    const LIMITED: RestrictFlags = RestrictFlags { limited: true, ..NONE };
    const NOSERVE: RestrictFlags = RestrictFlags { noserve: true, ..NONE };

    #[test]
    fn the_longest_prefix_alone_counts() {
        let table = RestrictTable::new(&[
            entry("0.0.0.0/0", false, IGNORE),
            entry("10.0.0.0/8", false, NONE),
            entry("10.1.0.0/16", false, LIMITED),
            entry("10.1.2.3", false, IGNORE),
            entry("10.1.2.3", false, LIMITED),
            entry("10.1.0.0/16", true, NOSERVE),
            entry("2001:db8::/32", false, NONE),
        ]);
        let check = |address: &str, port: u16, expected: RestrictFlags| {
            assert_eq!(table.flags(address.parse().unwrap(), port), expected, "{address} {port}");
        };
        check("192.0.2.1", 40_000, IGNORE);
        check("10.9.9.9", 40_000, NONE);
        check("10.1.9.9", 40_000, LIMITED);
        check("10.1.9.9", 123, NOSERVE);
        check("10.1.2.3", 40_000, RestrictFlags { ignore: true, limited: true, ..NONE });
        // It is more specific than the entry for the port.
        check("10.1.2.3", 123, RestrictFlags { ignore: true, limited: true, ..NONE });
        check("::ffff:10.1.9.9", 40_000, LIMITED);
        check("2001:db8::7", 123, NONE);
        // There is no default entry for IPv6.
        check("2001:db9::7", 123, RestrictFlags { limited: true, kod: true, noquery: true, ..NONE });
    }

    #[test]
    fn what_is_no_network() {
        let check =
            |text: &str, expected: CidrError| assert_eq!(text.parse::<Cidr>(), Err(expected), "{text}");
        check("10.0.0.1/8", CidrError::HostBits);
        check("2001:db8::1/64", CidrError::HostBits);
        check("10.0.0.0/33", CidrError::TooManyBits { most: 32 });
        check("::/129", CidrError::TooManyBits { most: 128 });
        check("::ffff:10.0.0.0/104", CidrError::MappedAddress);
        assert_eq!("0.0.0.0/0".parse(), Ok(Cidr::ALL_V4));
        assert_eq!("::/0".parse(), Ok(Cidr::ALL_V6));
        assert_eq!("::1".parse::<Cidr>().unwrap().bits(), 128);
    }

    #[test]
    fn a_template_is_for_the_upstreams_alone() {
        let table = RestrictTable::new(&[
            entry("0.0.0.0/0", false, IGNORE),
            entry("192.0.2.0/24", false, LIMITED),
            entry("192.0.2.9", false, IGNORE),
            entry("192.0.2.8", true, IGNORE),
        ])
        .with_template(Some(NOSERVE));
        let upstreams = ["198.51.100.1", "192.0.2.9", "192.0.2.8", "::ffff:192.0.2.7", "2001:db8::1"];
        let upstreams = upstreams.map(|address| address.parse::<IpAddr>().unwrap());
        let filled = table.for_upstreams(&upstreams);
        let check =
            |address: &str, port: u16, before: RestrictFlags, expected: RestrictFlags, dropped: bool| {
                let address: IpAddr = address.parse().unwrap();
                assert_eq!(table.flags(address, port), before, "{address} {port} before");
                assert_eq!(filled.flags(address, port), expected, "{address} {port}");
                if upstreams.iter().any(|upstream| upstream.to_canonical() == address) {
                    assert_eq!(table.ignores_upstream(address, port), dropped, "{address} {port}");
                }
            };
        check("198.51.100.1", 123, IGNORE, NOSERVE, false);
        check("198.51.100.2", 123, IGNORE, IGNORE, true);
        check("192.0.2.9", 123, IGNORE, IGNORE, true);
        // An entry for port 123 only is more specific than the template, and does not apply to replies.
        check("192.0.2.8", 123, IGNORE, IGNORE, false);
        check("192.0.2.8", 40_000, LIMITED, NOSERVE, false);
        check("192.0.2.7", 123, LIMITED, NOSERVE, false);
        check("2001:db8::1", 123, table.flags(upstreams[4], 123), NOSERVE, false);
        let plain = table.clone().with_template(None);
        assert_eq!(plain.for_upstreams(&upstreams), plain);
        assert!(plain.ignores_upstream(upstreams[0], 123) && !plain.ignores_upstream(upstreams[3], 123));
    }

    /// The rule implemented directly, with prefixes as text: it looks at every entry.
    fn slowly(entries: &[RestrictEntry], address: IpAddr, port: u16) -> Option<RestrictFlags> {
        let text = |address: IpAddr| match address {
            IpAddr::V4(v4) => format!("4{:032b}", v4.to_bits()),
            IpAddr::V6(v6) => format!("6{:0128b}", v6.to_bits()),
        };
        let wanted = text(address);
        let rank = |entry: &RestrictEntry| (entry.network.bits, entry.ntpport);
        let covers = |entry: &&RestrictEntry| {
            let prefix = &text(entry.network.address)[..1 + usize::from(entry.network.bits)];
            wanted.starts_with(prefix) && (!entry.ntpport || port == 123)
        };
        let best = entries.iter().filter(covers).map(rank).max()?;
        let winners = entries.iter().filter(covers).filter(|entry| rank(entry) == best);
        Some(winners.fold(NONE, |flags, entry| flags.merged(entry.flags)))
    }

    fn flags() -> impl Strategy<Value = RestrictFlags> {
        any::<[bool; 7]>().prop_map(|[ignore, noserve, noquery, notrust, version, limited, kod]| {
            RestrictFlags { ignore, noserve, noquery, notrust, version, limited, kod }
        })
    }

    /// Addresses with few different bits, so that prefixes often match, nest and repeat.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u8>().prop_map(|n| IpAddr::V4(Ipv4Addr::from_bits(u32::from(n) * 0x0101_0101))),
            any::<u8>().prop_map(|n| {
                IpAddr::V6(Ipv6Addr::from_bits((0x2000 << 112) | (u128::from(n) * 0x0101_0101_0101_0101)))
            }),
        ]
    }

    fn entries() -> impl Strategy<Value = Vec<RestrictEntry>> {
        let one =
            (address(), 0_u8..=128, any::<bool>(), flags()).prop_map(|(address, bits, ntpport, flags)| {
                let bits = if address.is_ipv4() { bits % 33 } else { bits };
                let number = left_aligned(address) & mask(bits);
                let address = match address {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((number >> 96) as u32)),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
                };
                RestrictEntry { network: Cidr::new(address, bits).unwrap(), ntpport, flags }
            });
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_table_equals_a_slow_reference(entries in entries(), address in address(), port in 122_u16..124) {
            let expected = slowly(&entries, address, port)
                .unwrap_or(RestrictFlags { limited: true, kod: true, noquery: true, ..NONE });
            prop_assert_eq!(RestrictTable::new(&entries).flags(address, port), expected);
        }

        #[test]
        fn a_template_is_as_if_its_lines_were_written(
            entries in entries(),
            upstreams in proptest::collection::vec(address(), 0..6),
            template in proptest::option::of(flags()),
            address in address(),
            port in 122_u16..124,
        ) {
            let table = RestrictTable::new(&entries).with_template(template);
            let mut all = entries.clone();
            for &upstream in template.iter().flat_map(|_| &upstreams) {
                let whole = Cidr::new(upstream, if upstream.is_ipv4() { 32 } else { 128 }).unwrap();
                if !all.iter().any(|entry| entry.network == whole && !entry.ntpport) {
                    all.push(RestrictEntry { network: whole, ntpport: false, flags: template.unwrap() });
                }
            }
            let expected = slowly(&all, address, port)
                .unwrap_or(RestrictFlags { limited: true, kod: true, noquery: true, ..NONE });
            prop_assert_eq!(table.for_upstreams(&upstreams).flags(address, port), expected);
        }
    }
}
