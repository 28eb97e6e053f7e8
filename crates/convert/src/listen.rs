//! Lines that say on which addresses a server listens: ntp.conf's `interface`, of which all lines together decide, and
//! chrony.conf's `bindaddress`. They become `serve.addresses`. In: these lines. Out: the field, and what became of each.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use profile::{ranges::MOST_SERVE_ADDRESSES, unfit_to_listen};

use crate::{draft::Draft, lines::Line};

/// An `interface` line.
struct Rule<'r, 'l> {
    line: &'r Line<'l>,
    listens: bool,
    /// ntpd opens the sockets and drops what comes to them. With `ignore` it opens none.
    drops: bool,
    class: Class,
}

/// The addresses of an `interface` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// All but loopback addresses.
    All,
    /// All of IPv4, or of IPv6.
    Family { v6: bool },
    /// The sockets of a family, or of both, for what comes to no socket of a single address. ntpd drops it unless a line says
    /// otherwise.
    Wildcard { v4: bool, v6: bool },
    /// The loopback addresses.
    Loopback,
    /// One address.
    Address(IpAddr),
}

impl Class {
    /// Returns true if a line of this class decides about `address`.
    fn has(self, address: IpAddr) -> bool {
        match self {
            Self::All => !address.is_loopback(),
            Self::Family { v6 } => v6 == address.is_ipv6(),
            Self::Wildcard { .. } => false,
            Self::Loopback => address.is_loopback(),
            Self::Address(own) => own == address,
        }
    }
}

/// `interface [listen | ignore | drop] CLASS`. The last line that matches an address decides about it. Once there is a line,
/// ntpd listens on no address that none matches, but for loopback addresses (miscopt.html; seen with NTPsec 1.2.2).
pub(super) fn interfaces(lines: &[&Line<'_>], draft: &mut Draft<'_>) {
    if lines.is_empty() {
        return;
    }
    let read: Vec<_> = lines.iter().map(|line| (*line, rule(line))).collect();
    if read.iter().any(|(_, rule)| rule.is_err()) {
        for (line, rule) in read {
            let others = || "it cannot stand without the others, of which one is left out".to_owned();
            let why = rule.err().unwrap_or_else(others);
            draft.leave_out(line, format!("{why}. List the nodes' addresses in serve.addresses"));
        }
        return;
    }
    let rules: Vec<_> = read.into_iter().filter_map(|(_, rule)| rule.ok()).collect();
    let mut addresses = Vec::new();
    let mut exceptions = Vec::new();
    for v6 in [false, true] {
        of_family(v6, &rules, &mut addresses, &mut exceptions);
    }
    if addresses.len() > MOST_SERVE_ADDRESSES {
        let why = format!(
            "the lines name {} addresses, loopback included; serve.addresses has at most {MOST_SERVE_ADDRESSES}",
            addresses.len()
        );
        return lines.iter().for_each(|line| draft.leave_out(line, &why));
    }
    for Rule { line, .. } in &rules {
        if exceptions.contains(&line.at) {
            draft.leave_out(line, "serve.addresses takes no exceptions: list the addresses that are left");
        } else {
            draft.carry(line);
        }
    }
    set(addresses, draft);
}

/// Adds the addresses of one family on which ntpd listens, and the lines that make an exception to all of them.
fn of_family(v6: bool, rules: &[Rule<'_, '_>], addresses: &mut Vec<IpAddr>, exceptions: &mut Vec<usize>) {
    let (any, loopback) = if v6 {
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::LOCALHOST))
    } else {
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::LOCALHOST))
    };
    let last = |matches: &dyn Fn(Class) -> bool| rules.iter().rev().find(|rule| matches(rule.class));
    let listens = |address: IpAddr| {
        last(&|class| class.has(address)).map_or(address.is_loopback(), |rule| rule.listens)
    };
    let all = last(&|class| class == Class::All || class == Class::Family { v6 });
    let wildcard =
        last(&|class| matches!(class, Class::Wildcard { v4, v6: six } if if v6 { six } else { v4 }));
    if wildcard.is_some_and(|rule| rule.listens) {
        // That socket gets what comes to an address without a socket, but not what is dropped.
        let of_family = |class| match class {
            Class::All | Class::Loopback => true,
            Class::Family { v6: six } => six == v6,
            Class::Address(address) => address.is_ipv6() == v6,
            Class::Wildcard { .. } => false,
        };
        let drops = rules.iter().filter(|rule| rule.drops && of_family(rule.class));
        exceptions.extend(drops.map(|rule| rule.line.at));
        return addresses.push(any);
    }
    let named = rules.iter().filter_map(|rule| match rule.class {
        Class::Address(address) if address.is_ipv6() == v6 => Some(address),
        _ => None,
    });
    let mut named: Vec<IpAddr> = named.chain([loopback]).collect();
    named.sort_unstable();
    named.dedup();
    if all.is_some_and(|rule| rule.listens) {
        addresses.push(any);
        let but = named.into_iter().filter(|address| !listens(*address));
        exceptions.extend(but.filter_map(|address| Some(last(&|class| class.has(address))?.line.at)));
    } else {
        addresses.extend(named.into_iter().filter(|address| listens(*address)));
    }
}

/// Reads a line; an error says why it cannot be carried over.
fn rule<'r, 'l>(line: &'r Line<'l>) -> Result<Rule<'r, 'l>, String> {
    let (listens, words) = match line.words.as_slice() {
        ["listen", words @ ..] => (true, words),
        ["ignore" | "drop", words @ ..] => (false, words),
        ["on", words @ ..] | words => (true, words),
    };
    let class = match words {
        ["all" | "*"] => Class::All,
        ["ipv4"] => Class::Family { v6: false },
        ["ipv6"] => Class::Family { v6: true },
        ["wildcard"] => Class::Wildcard { v4: true, v6: true },
        ["0.0.0.0"] => Class::Wildcard { v4: true, v6: false },
        ["::"] => Class::Wildcard { v4: false, v6: true },
        ["lo"] => Class::Loopback,
        [word] if word.contains('/') => return Err("a part of a network is no address".to_owned()),
        [word] => {
            let address =
                word.parse().map_err(|_| "network cards have other names on other nodes".to_owned())?;
            match unfit_to_listen(address) {
                Some(why) if listens => return Err(format!("{word} {why}")),
                _ => Class::Address(address),
            }
        }
        _ => return Err("it does not say on which address".to_owned()),
    };
    let drops = line.words.first() == Some(&"drop");
    Ok(Rule { line, listens, drops, class })
}

/// `bindaddress ADDRESS`: where chronyd's server listens. The last line of a family counts; a family without a line is served
/// on all addresses (chrony.conf(5)).
pub(super) fn bind_addresses(lines: &[&Line<'_>], serves: bool, draft: &mut Draft<'_>) {
    if !serves {
        lines
            .iter()
            .for_each(|line| draft.note(line, "no client may ask, so nothing is served on any address"));
        return;
    }
    let mut addresses = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    for line in lines {
        match line.words.as_slice() {
            [word] => match word.parse::<IpAddr>().map(|address| (address, unfit_to_listen(address))) {
                Ok((_, Some(why))) => draft.leave_out(line, format!("{word} {why}")),
                Ok((address, None)) => {
                    addresses[usize::from(address.is_ipv6())] = address;
                    draft.carry(line);
                }
                Err(_) => draft.leave_out(line, "it is no IP address"),
            },
            _ => draft.leave_out(line, "it does not say on which address"),
        }
    }
    set(addresses.to_vec(), draft);
}

/// Sets the field, unless the addresses are those that are served without it. Without any address nothing is served.
fn set(addresses: Vec<IpAddr>, draft: &mut Draft<'_>) {
    if addresses.is_empty() {
        draft.profile.serve.enabled = false;
        draft.remark("the server would listen on no address: serve.enabled is false");
    } else if !addresses.iter().all(IpAddr::is_unspecified) || addresses.len() == 1 {
        draft.profile.serve.addresses = addresses.iter().map(ToString::to_string).collect();
    }
}
