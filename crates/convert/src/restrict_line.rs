//! Turns ntp.conf's `restrict` and `unrestrict` lines into the access list, by ntpd's rules: flags of lines for the
//! same network add up, host bits are ignored, and each address family has a default of its own.
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use profile::{Flag, Restrict};

use crate::{
    Target,
    draft::Draft,
    lines::Line,
    remarks::Where,
    restrict_whom::{ALL_V4, ALL_V6, Whom, full, is_upstream, resolve, shown, whom, without_brackets},
};

/// The entries of the lines so far, in the order in which the lines first named them.
#[derive(Debug)]
pub(super) struct AccessList<'a> {
    entries: Vec<Entry<'a>>,
    /// Hosts of `server`, `pool` and `peer` lines.
    hosts: Vec<&'a str>,
    /// Rules for names of upstreams that did not resolve.
    of_upstreams: Vec<UpstreamRule<'a>>,
}

/// A rule for the name of an upstream that did not resolve.
#[derive(Debug)]
struct UpstreamRule<'a> {
    line: Line<'a>,
    host: String,
    flags: BTreeSet<Flag>,
    /// Why there is no address.
    why: String,
}

#[derive(Debug)]
struct Entry<'a> {
    /// The first line for these addresses; none for an entry that is added here.
    line: Option<Line<'a>>,
    whom: Whom,
    ntpport: bool,
    flags: BTreeSet<Flag>,
}

impl<'a> AccessList<'a> {
    /// Nothing yet, in a file with upstreams at these hosts.
    pub(super) fn new(hosts: Vec<&'a str>) -> Self {
        Self { entries: Vec::new(), hosts, of_upstreams: Vec::new() }
    }

    /// A `restrict` line.
    pub(super) fn restrict(&mut self, line: &Line<'a>, draft: &mut Draft<'_>) {
        let Some(Said { whom, ntpport, flags, unresolved }) = read(line, &self.hosts, draft) else { return };
        if let Some((host, why)) = unresolved {
            return self.of_upstreams.push(UpstreamRule { line: line.clone(), host, flags, why });
        }
        for whom in whom {
            match self.entries.iter_mut().find(|entry| (entry.whom, entry.ntpport) == (whom, ntpport)) {
                Some(entry) => entry.flags.extend(&flags),
                None => {
                    let line = Some(line.clone());
                    self.entries.push(Entry { line, whom, ntpport, flags: flags.clone() });
                }
            }
        }
        draft.carry(line);
    }

    /// Returns true if [`Self::finish`] decides what happens to this line.
    pub(super) fn defers(&self, line: &Line<'_>) -> bool {
        self.of_upstreams.iter().any(|rule| rule.line.at == line.at)
    }

    /// An `unrestrict` line: removes flags, or without any the whole entry.
    pub(super) fn unrestrict(&mut self, line: &Line<'_>, draft: &mut Draft<'_>) {
        let Some(Said { whom, ntpport, flags, unresolved }) = read(line, &self.hosts, draft) else { return };
        if let Some((_, why)) = unresolved {
            return draft.leave_out(line, why);
        }
        let is_meant = |entry: &Entry<'_>| whom.contains(&entry.whom) && entry.ntpport == ntpport;
        for entry in self.entries.iter_mut().filter(|entry| is_meant(entry)) {
            entry.flags.retain(|flag| !flags.contains(flag));
        }
        // A default entry cannot be removed.
        let stays = |entry: &Entry<'_>| !is_meant(entry) || [ALL_V4, ALL_V6].contains(&entry.whom);
        if flags.is_empty() {
            self.entries.retain(stays);
        }
        draft.carry(line);
    }

    /// The access list, with a safe default entry for each family without one.
    pub(super) fn finish(mut self, draft: &mut Draft<'_>) {
        self.settle_upstreams(draft);
        if self.entries.is_empty() {
            draft.remark(
                "no restrict line: classic ntpd would answer everybody everything, ntpq included, and NTPsec the time \
                 at a limited rate. Here, as nothing is said, everybody gets the time at a limited rate, and the node \
                 itself everything",
            );
            return;
        }
        for (family, all, loopback) in [
            ("IPv4", ALL_V4, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ("IPv6", ALL_V6, IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ] {
            if self.entries.iter().any(|entry| entry.whom == all && !entry.ntpport) {
                continue;
            }
            let flags = [Flag::Kod, Flag::Limited, Flag::Nomodify, Flag::Nopeer, Flag::Noquery];
            self.entries.insert(0, Entry { line: None, whom: all, ntpport: false, flags: flags.into() });
            let own = Whom::Network(loopback, full(loopback));
            if !self.entries.iter().any(|entry| entry.whom == own) {
                self.entries.push(Entry { line: None, whom: own, ntpport: false, flags: BTreeSet::new() });
            }
            draft.remark(format!(
                "no restrict line for {family}'s default: to those whom no line covers classic ntpd would answer \
                 everything, ntpq included, and NTPsec the time at a limited rate (noquery limited). They get the time \
                 at a limited rate here, and no more"
            ));
        }
        let ignores = self.entries.iter().any(|entry| entry.flags.contains(&Flag::Ignore));
        let has_template = self.entries.iter().any(|entry| entry.whom == Whom::Source);
        let is_name = |host: &String| host.parse::<IpAddr>().is_err();
        let by_name = |upstream: &profile::Upstream| {
            [&upstream.server, &upstream.pool, &upstream.peer].into_iter().flatten().any(is_name)
        };
        if ignores && !has_template && draft.profile.upstreams.iter().any(by_name) {
            draft.remark(
                "ignore drops the answers of upstreams as well. Those that are given by name are not heard if it covers their addresses: \
                 a line `restrict source` lets them in, whatever these are",
            );
        }
        let list = self.list(draft);
        draft.set_restrict(list);
    }

    /// Rules for names of upstreams that did not resolve become one for all upstreams, if there is the same for each of them.
    fn settle_upstreams(&mut self, draft: &mut Draft<'_>) {
        let rules = std::mem::take(&mut self.of_upstreams);
        let Some(first) = rules.first() else { return };
        let has_rule = |host: &&str| {
            let own = host.parse().map(|address| Whom::Network(address, full(address)));
            rules.iter().any(|rule| rule.host.eq_ignore_ascii_case(host))
                || own.is_ok_and(|own| self.entries.iter().any(|entry| entry.whom == own))
        };
        let one_rule = rules.iter().all(|rule| rule.flags == first.flags)
            && self.hosts.iter().all(has_rule)
            && !self.entries.iter().any(|entry| entry.whom == Whom::Source);
        for UpstreamRule { line, why, .. } in &rules {
            if one_rule {
                draft.note(
                    line,
                    format!("{why}. All upstreams have this rule, so it is `source`: it is for their addresses, whatever they are"),
                );
                draft.carry(line);
            } else {
                draft.leave_out(
                    line,
                    format!("{why}. Write its addresses, or `restrict source` for all upstreams, whatever their addresses are"),
                );
            }
        }
        if one_rule {
            let (line, flags) = (Some(first.line.clone()), first.flags.clone());
            self.entries.push(Entry { line, whom: Whom::Source, ntpport: false, flags });
        }
    }

    fn list(self, draft: &mut Draft<'_>) -> Vec<(Restrict, Option<Where>)> {
        let default = |all: Whom| {
            let found = self.entries.iter().find(|entry| entry.whom == all && !entry.ntpport);
            found.map(|entry| &entry.flags)
        };
        let one_default = default(ALL_V4) == default(ALL_V6);
        let mut list: Vec<(Restrict, Option<Where>)> = Vec::new();
        for entry in &self.entries {
            let is_default = [ALL_V4, ALL_V6].contains(&entry.whom) && !entry.ntpport && one_default;
            let source = if is_default { "default".to_owned() } else { entry.source() };
            let ntpport = entry.ntpport.then_some(Flag::Ntpport);
            let restrict = Restrict { source, flags: entry.flags.iter().copied().chain(ntpport).collect() };
            if let (Whom::Source, Some(line)) = (entry.whom, &entry.line) {
                if entry.flags.contains(&Flag::Ignore) {
                    draft.leave_out(
                        line,
                        "ignore would drop the replies of the upstreams, for which this line is",
                    );
                    continue;
                }
                if entry.ntpport {
                    draft.leave_out(line, "ntpport: an entry for the upstreams applies to every port");
                    continue;
                }
            }
            let twin = list.iter().find(|(other, _)| other.source == restrict.source);
            match (twin, &entry.line) {
                (Some(_), _) if is_default => {}
                (Some(_), Some(line)) if draft.target() == Target::Policy => draft.leave_out(
                    line,
                    "a policy has one entry per network: it cannot have one for port 123 and another one for other ports",
                ),
                (_, line) => list.push((restrict, line.as_ref().map(Where::from))),
            }
        }
        list
    }
}

impl Entry<'_> {
    /// In a policy each source may occur only once, so an address that also has an entry for port 123 is written in two
    /// ways.
    fn source(&self) -> String {
        match self.whom {
            Whom::Source => "source".to_owned(),
            Whom::Network(address, bits) if bits == full(address) && !self.ntpport => address.to_string(),
            Whom::Network(address, bits) => format!("{address}/{bits}"),
        }
    }
}

/// The content of one line.
struct Said {
    whom: Vec<Whom>,
    ntpport: bool,
    flags: BTreeSet<Flag>,
    /// The name of an upstream that did not resolve, and why; then there are no addresses.
    unresolved: Option<(String, String)>,
}

/// Reads a line. None if it could not be carried over; then there is a remark.
fn read(line: &Line<'_>, hosts: &[&str], draft: &mut Draft<'_>) -> Option<Said> {
    let mut words = line.words.iter().copied().peekable();
    let family = words.next_if(|word| ["-4", "-6"].contains(word));
    let Some(address) = words.next().map(without_brackets) else {
        draft.leave_out(line, "it has no address");
        return None;
    };
    let (mut mask, mut said) =
        (None, Said { whom: Vec::new(), ntpport: false, flags: BTreeSet::new(), unresolved: None });
    while let Some(word) = words.next() {
        match word {
            "mask" => mask = words.next(),
            "ntpport" => said.ntpport = true,
            "ippeerlimit" => {
                words.next();
                draft.note(
                    line,
                    "ippeerlimit: a packet never creates an association, so there are none to count",
                );
            }
            // All addresses, which is the default; and the opposite of noepeer.
            "non-ntpport" | "epeer" => draft.note(line, format!("{word}: it is the default")),
            "flake" => draft.leave_out(line, "flake: packets are not dropped at random"),
            "serverresponse" => {
                words.next();
                draft.leave_out(line, "serverresponse fuzz: reference times in replies are not randomised");
            }
            _ => match flag(word) {
                Some(flag) => drop(said.flags.insert(flag)),
                None => {
                    draft.leave_out(line, format!("the whole line: there is no flag {:?}", shown(word)));
                    return None;
                }
            },
        }
    }
    let (address, resolved) = match resolve(address, mask, family, hosts, draft) {
        Ok(found) => found,
        Err(why) if is_upstream(address, hosts) && !said.ntpport && !said.flags.contains(&Flag::Ignore) => {
            said.unresolved = Some((address.to_owned(), why));
            return Some(said);
        }
        Err(why) => {
            draft.leave_out(line, why);
            return None;
        }
    };
    let each = address.iter().map(|address| whom(address, mask, family));
    match each.collect::<Result<Vec<_>, _>>() {
        Ok(each) => {
            let cut = each.iter().any(|(_, cut)| *cut);
            let whom = each.into_iter().flat_map(|(whom, _)| whom).collect();
            if let Some(what) = resolved {
                draft.note(line, what);
            }
            if cut {
                draft.note(
                    line,
                    "the address has bits beyond its mask, which ntpd ignores: they were set to zero",
                );
            }
            said.whom = whom;
            Some(said)
        }
        Err(why) => {
            draft.leave_out(line, why);
            None
        }
    }
}

/// The flag with this name in ntp.conf.
fn flag(word: &str) -> Option<Flag> {
    Some(match word {
        "ignore" => Flag::Ignore,
        "kod" => Flag::Kod,
        "limited" => Flag::Limited,
        "lowpriotrap" => Flag::Lowpriotrap,
        "mssntp" => Flag::Mssntp,
        "noepeer" => Flag::Noepeer,
        "nomodify" => Flag::Nomodify,
        "nomrulist" => Flag::Nomrulist,
        "nopeer" => Flag::Nopeer,
        "noquery" => Flag::Noquery,
        "noserve" => Flag::Noserve,
        "notrap" => Flag::Notrap,
        "notrust" => Flag::Notrust,
        "version" => Flag::Version,
        _ => return None,
    })
}
