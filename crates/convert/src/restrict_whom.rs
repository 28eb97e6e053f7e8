//! Whom a `restrict` line of ntp.conf is for: its address, name, mask and family become networks, in ntpd's way.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{draft::Draft, source_line::is_own};

/// The addresses that an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// An address without host bits, and the length of the prefix.
    Network(IpAddr, u8),
    /// The addresses of the upstreams.
    Source,
}

pub(super) const ALL_V4: Whom = Whom::Network(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
pub(super) const ALL_V6: Whom = Whom::Network(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// The number of bits of an address of this family.
pub(super) fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns true if this is the name of an upstream of the file.
pub(super) fn is_upstream(address: &str, hosts: &[&str]) -> bool {
    address.parse::<IpAddr>().is_err() && hosts.iter().any(|host| host.eq_ignore_ascii_case(address))
}

/// ntpd takes an IPv6 address in brackets, too (seen with NTPsec 1.2.2).
pub(super) fn without_brackets(address: &str) -> &str {
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).unwrap_or(address)
}

/// The address as written, or the addresses of a name, with a remark: ntpd looks the name up when it starts
/// (accopt.html, `restrict`); here it is looked up once.
pub(super) fn resolve(
    address: &str,
    mask: Option<&str>,
    family: Option<&str>,
    hosts: &[&str],
    draft: &Draft<'_>,
) -> Result<(Vec<String>, Option<String>), String> {
    let text = address.split_once('/').map_or(address, |(text, _)| text);
    let is_name = matches!(
        contract::HostText::parse(text),
        Ok(contract::HostText { host: contract::Host::Name(_), port: None, .. })
    );
    if ["default", "source"].contains(&address) || !is_name {
        return Ok((vec![address.to_owned()], None));
    }
    if text != address || mask.is_some_and(|mask| !["255.255.255.255", ALL_ONES].contains(&mask)) {
        return Err(format!(
            "{:?} is a name, which cannot have a mask: write the address of the network",
            shown(address)
        ));
    }
    let of_family = |found: &IpAddr| family.is_none_or(|family| (family == "-4") == found.is_ipv4());
    let mut found = if is_own(address) {
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
    } else {
        draft.beside.addresses(address).map_err(|why| {
            let name = shown(address);
            if is_upstream(address, hosts) {
                return format!("{name:?} did not resolve: {why}");
            }
            format!(
                "{name:?} did not resolve: {why}. Write its addresses, or `restrict source` for the upstreams, \
                 whatever their addresses are"
            )
        })?
    };
    // A mask belongs to one family.
    let v4_only = mask.is_some_and(|mask| mask != ALL_ONES);
    found.retain(|each| of_family(each) && (mask.is_none() || each.is_ipv4() == v4_only));
    if found.is_empty() {
        return Err(format!("{:?} has no address of that family", shown(address)));
    }
    let found: Vec<_> = found.iter().map(IpAddr::to_string).collect();
    let what = (!is_own(address)).then(|| {
        format!(
            "{} was looked up during the conversion: {}. If its addresses change, change the rule, too",
            shown(address),
            found.join(", ")
        )
    });
    Ok((found, what))
}

/// The mask of one IPv6 address.
const ALL_ONES: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

pub(super) fn shown(word: &str) -> String {
    word.chars().take(30).collect()
}

/// The addresses that a line is for, and true if the address had bits beyond its mask.
pub(super) fn whom(
    address: &str,
    mask: Option<&str>,
    family: Option<&str>,
) -> Result<(Vec<Whom>, bool), String> {
    let all = match family {
        Some("-4") => vec![ALL_V4],
        Some(_) => vec![ALL_V6],
        None => vec![ALL_V4, ALL_V6],
    };
    match (address, mask) {
        ("default", None) => return Ok((all, false)),
        ("source", None) => return Ok((vec![Whom::Source], false)),
        ("default" | "source", Some(_)) => return Err(format!("{address} cannot have a mask")),
        _ => {}
    }
    let (text, prefix) =
        address.split_once('/').map_or((address, None), |(text, prefix)| (text, Some(prefix)));
    let parsed: IpAddr =
        text.parse().map_err(|_| format!("{:?} is neither an address nor a host name", shown(address)))?;
    if family.is_some_and(|family| (family == "-4") != parsed.is_ipv4()) {
        return Err("the address has the other address family".to_owned());
    }
    if matches!(parsed, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err("the address is an IPv4 address in IPv6 notation: write it as IPv4".to_owned());
    }
    let bits = match (prefix, mask) {
        (None, None) => full(parsed),
        (Some(prefix), None) => prefix_bits(prefix, parsed)?,
        (None, Some(mask)) => mask_bits(mask, parsed)?,
        (Some(_), Some(_)) => return Err("it has both a prefix length and a mask".to_owned()),
    };
    let network = masked(parsed, bits);
    Ok((vec![Whom::Network(network, bits)], network != parsed))
}

fn prefix_bits(prefix: &str, address: IpAddr) -> Result<u8, String> {
    let bits = prefix.parse().ok().filter(|bits| *bits <= full(address) && !prefix.starts_with('+'));
    bits.ok_or_else(|| format!("/{} is not a prefix length", shown(prefix)))
}

/// The prefix length of a mask whose ones are all before its zeros. Other masks do not describe networks.
fn mask_bits(mask: &str, address: IpAddr) -> Result<u8, String> {
    let (number, width) = match mask.parse().map_err(|_| format!("{:?} is not a mask", shown(mask)))? {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let bits = u8::try_from(number.leading_ones()).unwrap_or(u8::MAX);
    if width != full(address) {
        return Err("the mask has the other address family".to_owned());
    }
    if number.count_ones() != number.leading_ones() {
        return Err(format!(
            "{mask} is no network's mask: its ones do not all stand before its zeros. Write a line for each \
             network that it means"
        ));
    }
    Ok(bits)
}

/// `address` with only its first `bits` bits.
pub(super) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let cut = |number: u128, width: u32| {
        let host = width.saturating_sub(u32::from(bits));
        number.checked_shr(host).and_then(|n| n.checked_shl(host)).unwrap_or(0)
    };
    match address {
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(u32::try_from(cut(u128::from(v4.to_bits()), 32)).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => Ipv6Addr::from_bits(cut(v6.to_bits(), 128)).into(),
    }
}
