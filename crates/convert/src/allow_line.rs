//! Turns chrony.conf's `allow` and `deny` lines into the access list. chronyd serves only clients that a line allows,
//! and the longest prefix counts. A later line replaces an earlier one for the same network; with `all` also those for
//! networks within it; and those for networks within it whose prefix length is in the same group of four bits, since a
//! level of chronyd's table has four bits.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use profile::{Flag, Restrict};

use crate::{
    draft::Draft,
    lines::{self, Line},
    remarks::Where,
    restrict_whom::{full, masked},
    source_line::is_own,
};

/// The rules of the lines so far.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// The line of the rule.
    line: Where,
    /// Without host bits.
    network: IpAddr,
    bits: u8,
    allowed: bool,
}

impl Rule {
    fn covers(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.bits) == self.network
    }

    /// The level in chronyd's table: four bits of prefix each; the network of all addresses is a level of its own.
    fn level(&self) -> u8 {
        self.bits.div_ceil(4)
    }
}

const FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Allowed {
    /// An `allow` or `deny` line.
    pub(super) fn line(&mut self, line: &Line<'_>, allowed: bool, draft: &mut Draft<'_>) {
        let (all, rest) = match line.words.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case("all") => (true, rest),
            _ => (false, line.words.as_slice()),
        };
        match rest {
            [] => FAMILIES.into_iter().for_each(|network| {
                self.set(Rule { line: line.into(), network, bits: 0, allowed }, all);
            }),
            [network] => {
                let found = match networks(network, draft) {
                    Ok(found) => found,
                    Err(why) => return draft.leave_out(line, why),
                };
                if parse(network).is_none() && !is_own(network) {
                    let found: Vec<_> = found.iter().map(|(address, _)| address.to_string()).collect();
                    let (name, found) = (lines::printable(network), found.join(", "));
                    draft.note(
                        line,
                        format!("{name} was looked up during the conversion: {found}. If its addresses change, change the rule, too"),
                    );
                }
                for (network, bits) in found {
                    let network = masked(network, bits);
                    self.set(Rule { line: line.into(), network, bits, allowed }, all);
                }
            }
            _ => return draft.leave_out(line, "it names more than one network"),
        }
        draft.carry(line);
    }

    fn set(&mut self, rule: Rule, all: bool) {
        self.rules.retain(|old| {
            !(old.bits >= rule.bits && rule.covers(old.network) && (all || old.level() == rule.level()))
        });
        self.rules.push(rule);
    }

    /// Returns true if an address may send requests.
    pub(super) fn anybody(&self) -> bool {
        self.rules.iter().any(|rule| rule.allowed)
    }

    fn allows(&self, address: IpAddr) -> bool {
        let rules = self.rules.iter().filter(|rule| rule.covers(address));
        rules.max_by_key(|rule| rule.bits).is_some_and(|rule| rule.allowed)
    }

    /// The access list. `limits` are the flags of clients that are allowed. Only the node itself may use ntpq, which
    /// chronyd does not answer.
    pub(super) fn list(&self, limits: &[Flag]) -> Vec<(Restrict, Option<Where>)> {
        let flags = |allowed: bool| if allowed { limits.to_vec() } else { vec![Flag::Noserve] };
        let remote = |allowed: bool| {
            let mut flags = flags(allowed);
            flags.push(Flag::Noquery);
            flags.sort_unstable();
            flags
        };
        let default = |network: IpAddr| {
            self.rules.iter().any(|rule| (rule.network, rule.bits) == (network, 0) && rule.allowed)
        };
        let [v4, v6] = FAMILIES.map(default);
        let mut list = Vec::new();
        let mut push = |source: String, flags: Vec<Flag>, line: Option<&Where>| {
            list.push((Restrict { source, flags }, line.cloned()));
        };
        if v4 == v6 {
            push("default".to_owned(), remote(v4), None);
        } else {
            push("0.0.0.0/0".to_owned(), remote(v4), None);
            push("::/0".to_owned(), remote(v6), None);
        }
        for own in LOOPBACK {
            push(own.to_string(), flags(self.allows(own)), None);
        }
        for rule in &self.rules {
            let Rule { ref line, network, bits, allowed } = *rule;
            match bits == full(network) {
                _ if bits == 0 => {}
                true if LOOPBACK.contains(&network) => {}
                true => push(network.to_string(), remote(allowed), Some(line)),
                false => push(format!("{network}/{bits}"), remote(allowed), Some(line)),
            }
        }
        list
    }
}

/// The network that a line names; of a name its addresses, which chronyd looks up when it starts (chrony.conf(5), `allow`).
fn networks(text: &str, draft: &Draft<'_>) -> Result<Vec<(IpAddr, u8)>, String> {
    if let Some(network) = parse(text) {
        return Ok(vec![network]);
    }
    let shown = lines::printable(text);
    let is_name = matches!(
        contract::HostText::parse(text),
        Ok(contract::HostText { host: contract::Host::Name(_), port: None, .. })
    );
    if !is_name {
        return Err(format!("{shown:?} is neither an address nor a network"));
    }
    let found = if is_own(text) { Ok(LOOPBACK.to_vec()) } else { draft.beside.addresses(text) };
    let found = found.map_err(|why| format!("{shown:?} did not resolve: {why}. Write its addresses"))?;
    Ok(found.into_iter().map(|address| (address, full(address))).collect())
}

/// `192.0.2.1`, `192.0.2.0/24`, `192.0.2` (a /24), `10` (a /8), `10/8`, `2001:db8::/32`.
fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let (address, bits): (IpAddr, u8) = match address.parse::<IpAddr>() {
        Ok(address) => (address, full(address)),
        Err(_) => {
            let parts = address.split('.').map(|part| part.parse::<u8>().ok());
            let parts: Vec<u8> = parts.collect::<Option<_>>()?;
            let mut octets = [0; 4];
            octets.get_mut(..parts.len())?.copy_from_slice(&parts);
            (IpAddr::from(octets), u8::try_from(8 * parts.len()).ok()?)
        }
    };
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return None;
    }
    let bits = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
    (bits <= full(address)).then_some((address, bits))
}
