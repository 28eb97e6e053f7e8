//! chrony.conf's `allow` and `deny` lines in, the access list out. chronyd serves nobody whom no line allows, the
//! longest prefix counts, and a later line takes the place of an earlier one: that for the same network, with `all`
//! those for networks within it, and those within it of the same four bits of prefix length, since its table has four
//! to a level.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use profile::{Flag, Restrict};

use super::{
    draft::Draft,
    lines::{self, Line},
    restrict_line::{full, masked},
};

/// What the lines so far say.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    /// Without host bits.
    network: IpAddr,
    bits: u8,
    allowed: bool,
}

impl Rule {
    fn covers(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.bits) == self.network
    }

    /// Four bits of prefix to a level; all addresses are a level of their own.
    fn level(&self) -> u8 {
        self.bits.div_ceil(4)
    }
}

const FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Allowed {
    /// An `allow` or `deny` line.
    pub(super) fn line(&mut self, line: &Line<'_>, allowed: bool, draft: &mut Draft) {
        let (all, rest) = match line.words.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case("all") => (true, rest),
            _ => (false, line.words.as_slice()),
        };
        match rest {
            [] => FAMILIES.into_iter().for_each(|network| self.set(Rule { network, bits: 0, allowed }, all)),
            [network] => {
                match parse(network) {
                    Some((network, bits)) => {
                        self.set(Rule { network: masked(network, bits), bits, allowed }, all)
                    }
                    None => {
                        let shown = lines::printable(network);
                        return draft.leave_out(
                        line,
                        format!("{shown:?} is neither an address nor a network. chronyd looks a name up; here \
                             each of its addresses needs a line"),
                    );
                    }
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

    /// Whether somebody may ask.
    pub(super) fn anybody(&self) -> bool {
        self.rules.iter().any(|rule| rule.allowed)
    }

    fn allows(&self, address: IpAddr) -> bool {
        let rules = self.rules.iter().filter(|rule| rule.covers(address));
        rules.max_by_key(|rule| rule.bits).is_some_and(|rule| rule.allowed)
    }

    /// The list; `limits` holds for those who are allowed. ntpq, which chronyd does not answer, is for the node alone.
    pub(super) fn list(&self, limits: &[Flag]) -> Vec<Restrict> {
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
        let mut push = |source: String, flags: Vec<Flag>| list.push(Restrict { source, flags });
        if v4 == v6 {
            push("default".to_owned(), remote(v4));
        } else {
            push("0.0.0.0/0".to_owned(), remote(v4));
            push("::/0".to_owned(), remote(v6));
        }
        for own in LOOPBACK {
            push(own.to_string(), flags(self.allows(own)));
        }
        for rule in &self.rules {
            let Rule { network, bits, allowed } = *rule;
            match bits == full(network) {
                _ if bits == 0 => {}
                true if LOOPBACK.contains(&network) => {}
                true => push(network.to_string(), remote(allowed)),
                false => push(format!("{network}/{bits}"), remote(allowed)),
            }
        }
        list
    }
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
