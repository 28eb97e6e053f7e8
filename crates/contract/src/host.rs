//! Texts that name a host, as users write them: an IP address or a host name, with an optional port, or with the zone
//! of a link-local address. This is the only parser for the profile, the agent's file, the command line, and what
//! `convert` reads. Text in, parts out. It resolves no name, and looks up no interface.
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The parts of a text that names a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostText {
    /// The host.
    pub host: Host,
    /// The port after the host.
    pub port: Option<u16>,
    /// The address is in brackets.
    bracketed: bool,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A link-local address and its zone, the name of the interface that leads to it: `fe80::1%eth0`.
    Zoned(Ipv6Addr, String),
    /// A host name.
    Name(String),
}

/// Why a text names no host, or none that may be used in its place. Its message names the right form. It is to be read
/// after the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The text is neither an address nor a host name (RFC 1123 §2.1).
    Neither,
    /// Digits and dots that resolvers read as different addresses.
    Almost,
    /// A name that some resolvers read as an address (`0x7f000001`), or that no host can have.
    Doubtful,
    /// An IPv4 address in IPv6 form. The rules of neither family would match it as the user expects.
    Mapped(Ipv4Addr),
    /// A bracket without its counterpart, or with other text after it.
    Bracket,
    /// Brackets around something other than an IPv6 address.
    Bracketed(String),
    /// The text after the last colon is not a port.
    Port(String),
    /// A zone after an address that is not link-local.
    ZoneOf(String),
    /// The zone is not the name of an interface.
    Zone,
    /// A port after a zone, without brackets.
    PortBehindZone(String),
    /// A port where a field of its own is for the port.
    PortInside(String, u16),
    /// Brackets where no port may follow.
    BracketsInside(Ipv6Addr),
    /// A link-local address where no zone is allowed.
    LinkLocal,
    /// The unspecified address, which means this node itself.
    Unspecified,
    /// A broadcast address.
    Broadcast,
    /// A multicast address.
    Multicast,
    /// ntp.conf's address for the system clock.
    OwnClock,
    /// ntp.conf's address for a reference clock of the machine.
    ReferenceClock,
}

impl HostText {
    /// Parses `ntp.example.com`, `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]` or `fe80::1%eth0`; with a port
    /// `ntp.example.com:1123`, `192.0.2.1:1123`, `[2001:db8::1]:1123` or `[fe80::1%eth0]:1123`.
    ///
    /// # Errors
    /// [`HostError`], except the variants that only [`upstream`] returns.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or(HostError::Bracket)?;
            let port = match after.strip_prefix(':') {
                Some(digits) => Some(port(digits)?),
                None if after.is_empty() => None,
                None => return Err(HostError::Bracket),
            };
            let host = match host(inside)? {
                host @ (Host::Address(IpAddr::V6(_)) | Host::Zoned(..)) => host,
                Host::Address(IpAddr::V4(_)) | Host::Name(_) => {
                    return Err(HostError::Bracketed(inside.to_owned() + after));
                }
            };
            return Ok(Self { host, port, bracketed: true });
        }
        if text.contains(']') {
            return Err(HostError::Bracket);
        }
        let colons = text.bytes().filter(|&b| b == b':').count();
        if let (1, Some((before, digits))) = (colons, text.split_once(':')) {
            return Ok(Self { host: host(before)?, port: Some(port(digits)?), bracketed: false });
        }
        Ok(Self { host: host(text)?, port: None, bracketed: false })
    }
}

/// Parses an upstream's `server`, `peer` or `pool`: an address or a name alone. Its port has a field of its own. A
/// link-local address is refused: it means another host behind each interface, and a profile is for nodes whose
/// interfaces differ.
///
/// # Errors
/// [`HostError`].
pub fn upstream(text: &str) -> Result<Host, HostError> {
    let HostText { host, port, bracketed } = HostText::parse(text)?;
    match (&host, port) {
        (Host::Zoned(..), _) => Err(HostError::LinkLocal),
        (Host::Address(IpAddr::V6(v6)), _) if v6.is_unicast_link_local() => Err(HostError::LinkLocal),
        (Host::Address(address), _) if let Some(error) = of_no_server(*address) => Err(error),
        (_, Some(port)) => Err(HostError::PortInside(host.to_string(), port)),
        (Host::Address(IpAddr::V6(v6)), None) if bracketed => Err(HostError::BracketsInside(*v6)),
        (Host::Name(name), None) if !is_name_of_upstream(name) => Err(HostError::Doubtful),
        _ => Ok(host),
    }
}

/// The API server's rule, which CEL has as a pattern.
fn is_name_of_upstream(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    let ends_well = |part: &str| part == "_" || part.ends_with(|last: char| last.is_ascii_alphanumeric());
    name.split('.').all(ends_well) && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Zoned(address, zone) => write!(f, "{address}%{zone}"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neither => f.write_str("is neither an IP address nor a host name"),
            Self::Almost => f.write_str("looks like an IP address and is none"),
            Self::Doubtful => f.write_str(
                "is no host name of an upstream: each part ends with a letter or a digit, and the last one begins with a \
                 letter",
            ),
            Self::Mapped(v4) => write!(f, "is an IPv4 address: write {v4}"),
            Self::Bracket => {
                f.write_str("has a bracket that does not fit: write [2001:db8::1], or [2001:db8::1]:123 with a port")
            }
            Self::Bracketed(inside) => write!(f, "has brackets, which are for IPv6 addresses: write {inside}"),
            Self::Port(digits) => write!(f, "ends with {digits:?}, which is no port: a port is 1 to 65535"),
            Self::ZoneOf(address) => {
                write!(f, "names an interface, which only a link-local address (fe80::) needs: write {address}")
            }
            Self::Zone => f.write_str("names no interface behind the %: write fe80::1%eth0, for instance"),
            Self::PortBehindZone(right) => write!(f, "needs brackets before the port: write {right}"),
            Self::PortInside(host, port) => {
                write!(f, "has a port in it: write {host} here, and {port} in the field port beside it")
            }
            Self::BracketsInside(v6) => write!(f, "has brackets: write {v6}, without them"),
            Self::LinkLocal => f.write_str(
                "is a link-local address, which is a different host on each interface, and a profile names no \
                 interface: use a global or unique local address of that server, or its name",
            ),
            Self::Unspecified => f.write_str(
                "stands for this node itself: write the server's own address, or stratum.local to serve this node's \
                 clock",
            ),
            Self::Broadcast => f.write_str("is the broadcast address: write the address of each server"),
            Self::Multicast => f.write_str("is a multicast address: write the address of each server"),
            Self::OwnClock => {
                f.write_str("is ntp.conf's name for this node's own clock: write stratum.local instead")
            }
            Self::ReferenceClock => f.write_str(
                "is ntp.conf's name for a reference clock: write device for a PTP clock, and for others the address of \
                 a server that reads them",
            ),
        }
    }
}

impl std::error::Error for HostError {}

/// Why an address cannot be that of a single server; none if it can.
fn of_no_server(address: IpAddr) -> Option<HostError> {
    match address {
        _ if address.is_unspecified() => Some(HostError::Unspecified),
        _ if address.is_multicast() => Some(HostError::Multicast),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(HostError::Broadcast),
        IpAddr::V4(v4) if v4.octets().starts_with(&[127, 127, 1]) => Some(HostError::OwnClock),
        IpAddr::V4(v4) if v4.octets().starts_with(&[127, 127]) => Some(HostError::ReferenceClock),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn host(text: &str) -> Result<Host, HostError> {
    if let Some((address, zone)) = text.split_once('%') {
        return zoned(address, zone);
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(HostError::Mapped(v6.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED)))
        }
        Ok(address) => Ok(Host::Address(address)),
        Err(_) => name(text).map(Host::Name),
    }
}

fn zoned(address: &str, zone: &str) -> Result<Host, HostError> {
    // IFNAMSIZ. The characters below are those that dev_valid_name() in net/core/dev.c accepts.
    const LONGEST: usize = 15;
    let Ok(v6) = address.parse::<Ipv6Addr>() else {
        // An IPv4 address or a name with a zone after it.
        return Err(host(address).map_or(HostError::Neither, |_| HostError::ZoneOf(address.to_owned())));
    };
    if !v6.is_unicast_link_local() {
        return Err(HostError::ZoneOf(address.to_owned()));
    }
    if let Some((zone, digits)) = zone.split_once(':')
        && port(digits).is_ok()
    {
        return Err(HostError::PortBehindZone(format!("[{address}%{zone}]:{digits}")));
    }
    let plain = |b: u8| b.is_ascii_graphic() && !b"/:%[]".contains(&b);
    if !(1..=LONGEST).contains(&zone.len()) || !zone.bytes().all(plain) {
        return Err(HostError::Zone);
    }
    Ok(Host::Zoned(v6, zone.to_owned()))
}

fn port(digits: &str) -> Result<u16, HostError> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let port = digits.parse().ok().filter(|&port| plain && port > 0);
    port.ok_or_else(|| HostError::Port(digits.to_owned()))
}

/// A name that could resolve (RFC 1123 §2.1). `_` is accepted, since it occurs in practice.
fn name(text: &str) -> Result<String, HostError> {
    let labels: Vec<_> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let sound = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !labels.iter().all(sound) {
        return Err(HostError::Neither);
    }
    // Resolvers differ on "010.1.1.1" and "1.2.3": they read different addresses.
    if labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(HostError::Almost);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Option<u16>), &str>) {
        let found = HostText::parse(text).map(|found| (found.host.to_string(), found.port));
        let found = found.map_err(|error| error.to_string());
        let found = found.as_ref().map(|(host, port)| (host.as_str(), *port)).map_err(String::as_str);
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn hosts_with_and_without_a_port() {
        check("192.0.2.1", Ok(("192.0.2.1", None)));
        check("192.0.2.1:1123", Ok(("192.0.2.1", Some(1123))));
        check("2001:db8::1", Ok(("2001:db8::1", None)));
        // This is an address, even though its last group looks like a port.
        check("2001:db8::1:1123", Ok(("2001:db8::1:1123", None)));
        check("[2001:db8::1]", Ok(("2001:db8::1", None)));
        check("[2001:db8::1]:1123", Ok(("2001:db8::1", Some(1123))));
        check("::1", Ok(("::1", None)));
        check("fe80::1", Ok(("fe80::1", None)));
        check("fe80::1%eth0", Ok(("fe80::1%eth0", None)));
        check("fe80::1%2", Ok(("fe80::1%2", None)));
        check("[fe80::1%br-0.5]:1123", Ok(("fe80::1%br-0.5", Some(1123))));
        for name in ["ntp.example.com", "ntp1", "a_b.example", "ntp.example.com.", "localhost"] {
            check(name, Ok((name, None)));
            check(&format!("{name}:65535"), Ok((name, Some(65_535))));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_right_form() {
        let neither = Err("is neither an IP address nor a host name");
        for text in
            ["", ".", "a b", "-a.example", "a..b", "x/y", "ü.example", "a:b:c", "2001:db8:::1", ":123"]
        {
            check(text, neither);
        }
        for text in ["010.1.1.1", "1.2.3", "1.2.3:123"] {
            check(text, Err("looks like an IP address and is none"));
        }
        check("::ffff:10.1.1.1", Err("is an IPv4 address: write 10.1.1.1"));
        let bracket =
            "has a bracket that does not fit: write [2001:db8::1], or [2001:db8::1]:123 with a port";
        for text in ["[2001:db8::1", "2001:db8::1]", "[2001:db8::1]123", "[2001:db8::1]x"] {
            check(text, Err(bracket));
        }
        check("[192.0.2.1]:123", Err("has brackets, which are for IPv6 addresses: write 192.0.2.1:123"));
        check("[ntp.example.com]", Err("has brackets, which are for IPv6 addresses: write ntp.example.com"));
        check("ntp.example.com:", Err("ends with \"\", which is no port: a port is 1 to 65535"));
        check("ntp.example.com:ntp", Err("ends with \"ntp\", which is no port: a port is 1 to 65535"));
        for port in ["0", "65536", "+1"] {
            check(
                &format!("[2001:db8::1]:{port}"),
                Err(&format!("ends with {port:?}, which is no port: a port is 1 to 65535")),
            );
        }
        let zone = "names an interface, which only a link-local address (fe80::) needs: write";
        check("2001:db8::1%eth0", Err(&format!("{zone} 2001:db8::1")));
        check("192.0.2.1%eth0", Err(&format!("{zone} 192.0.2.1")));
        check("ntp.example.com%eth0", Err(&format!("{zone} ntp.example.com")));
        check("fe80::1%", Err("names no interface behind the %: write fe80::1%eth0, for instance"));
        check("fe80::1%a/b", Err("names no interface behind the %: write fe80::1%eth0, for instance"));
        check("fe80::1%eth0:123", Err("needs brackets before the port: write [fe80::1%eth0]:123"));
    }

    #[test]
    fn an_upstream_is_an_address_or_a_name_alone() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = upstream(text).map(|host| host.to_string()).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text:?}");
        };
        check("2001:db8::1", Ok("2001:db8::1"));
        check("192.0.2.1", Ok("192.0.2.1"));
        // Amazon's time service has a link-local IPv4 address. It needs no zone.
        check("169.254.169.123", Ok("169.254.169.123"));
        for own in ["127.0.0.1", "127.126.1.1", "::1"] {
            check(own, Ok(own));
        }
        for unspecified in ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::0.0.0.0", "[::]", "0.0.0.0:123"] {
            let why = "stands for this node itself: write the server's own address, or stratum.local to serve this \
                       node's clock";
            check(unspecified, Err(why));
        }
        for multicast in ["224.0.0.1", "239.255.255.255", "ff02::101", "FF05::101"] {
            check(multicast, Err("is a multicast address: write the address of each server"));
        }
        check("255.255.255.255", Err("is the broadcast address: write the address of each server"));
        for own in ["127.127.1.0", "127.127.1.255"] {
            check(own, Err("is ntp.conf's name for this node's own clock: write stratum.local instead"));
        }
        for clock in ["127.127.0.0", "127.127.28.0"] {
            let why = "is ntp.conf's name for a reference clock: write device for a PTP clock, and for others the \
                       address of a server that reads them";
            check(clock, Err(why));
        }
        check("ntp.example.com.", Ok("ntp.example.com."));
        check(
            "ntp.example.com:1123",
            Err("has a port in it: write ntp.example.com here, and 1123 in the field port beside it"),
        );
        check(
            "[2001:db8::1]:1123",
            Err("has a port in it: write 2001:db8::1 here, and 1123 in the field port beside it"),
        );
        check("[2001:db8::1]", Err("has brackets: write 2001:db8::1, without them"));
        for name in ["ntp_server", "_.example", "_ntp._udp.example.com.", "4u.example", "a"] {
            check(name, Ok(name));
        }
        for name in ["0x7f000001", "4u-server", "a_.example", "ntp.4u", "_", "_a", "ntp_"] {
            let why = "is no host name of an upstream: each part ends with a letter or a digit, and the last one begins \
                       with a letter";
            check(name, Err(why));
        }
        for text in ["fe80::1", "fe80::1%eth0", "[fe80::1%eth0]:123"] {
            let error = upstream(text).unwrap_err();
            assert_eq!(error, HostError::LinkLocal, "{text}");
        }
    }
}
