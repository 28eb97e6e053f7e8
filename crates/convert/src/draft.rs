//! What was carried over so far, and what is to be said of it: a profile that grows, the lines its upstreams come from,
//! the files with secrets that it speaks of, and a remark for each line that does not mean the same any more. Whether
//! the profile could run is `check`'s to say, and here an upstream that it refuses is left out.
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use contract::Span;
use profile::{
    Profile, Restrict, Upstream,
    ranges::{self, LONGEST_NAME, MOST_UPSTREAMS, Range},
};

use super::{Target, lines::Line};

/// A profile on its way.
#[derive(Debug)]
pub(super) struct Draft {
    target: Target,
    /// What is said so far, but for upstreams, which come through [`Self::add`], and the access list.
    pub(super) profile: Profile,
    /// The line that each upstream comes from, and how it is shown.
    from: Vec<(usize, String)>,
    rtc_device: Option<PathBuf>,
    secrets: Vec<Wanted>,
    remarks: Vec<Remark>,
    carried: BTreeSet<usize>,
}

/// A file with a secret or a certificate that the profile speaks of.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    secret: &'static str,
    key: String,
    content: String,
}

/// The Secret with the server's certificate and key.
pub(super) const SERVER_SECRET: &str = "ntp-server";

/// What is to be said of a line, or of all of them.
#[derive(Debug)]
struct Remark {
    /// The line's number, 0 for the file; and the line.
    line: (usize, String),
    /// Something that matters is not in the result.
    left_out: bool,
    what: String,
}

/// What becomes of something without a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody misses it.
    Unneeded,
    /// It matters.
    LeftOut,
}

impl Draft {
    /// Nothing yet.
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            profile: Profile::default(),
            from: Vec::new(),
            rtc_device: None,
            secrets: Vec::new(),
            remarks: Vec::new(),
            carried: BTreeSet::new(),
        }
    }

    /// The result has what this line says.
    pub(super) fn carry(&mut self, line: &Line<'_>) {
        self.carried.insert(line.number);
    }

    /// The line is not needed, or means something else here, and nobody would miss it.
    pub(super) fn note(&mut self, line: &Line<'_>, what: impl Into<String>) {
        self.say(line, false, what.into());
    }

    /// The line, or part of it, is not in the result, and that matters.
    pub(super) fn leave_out(&mut self, line: &Line<'_>, what: impl Into<String>) {
        self.say(line, true, what.into());
    }

    /// One of these two.
    pub(super) fn tell(&mut self, line: &Line<'_>, fate: Fate, what: impl Into<String>) {
        self.say(line, fate == Fate::LeftOut, what.into());
    }

    /// A line that nothing became of so far says nothing that could be read.
    pub(super) fn account_for(&mut self, line: &Line<'_>) {
        let is_said = self.remarks.last().is_some_and(|remark| remark.line.0 == line.number);
        if !is_said && !self.carried.contains(&line.number) {
            self.leave_out(line, "it does not say what it sets");
        }
    }

    fn say(&mut self, line: &Line<'_>, left_out: bool, what: String) {
        self.remarks.push(Remark { line: (line.number, line.shown().into_owned()), left_out, what });
    }

    /// Something that holds for the whole file, told before all else.
    pub(super) fn remark(&mut self, what: impl Into<String>) {
        self.remarks.push(Remark { line: (0, String::new()), left_out: false, what: what.into() });
    }

    /// What is made of the file.
    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// A field as the result has it: policies and agents' files have the same spelling.
    #[allow(clippy::unused_self, reason = "its callers ask the draft for the words of the result")]
    pub(super) fn field(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Another upstream, whose name is made here. `check` judges it later.
    pub(super) fn add(&mut self, line: &Line<'_>, mut upstream: Upstream) {
        if self.profile.upstreams.len() >= MOST_UPSTREAMS {
            return self.leave_out(line, format!("the whole upstream: there can be {MOST_UPSTREAMS}"));
        }
        let host =
            [&upstream.server, &upstream.pool, &upstream.peer, &upstream.device].into_iter().flatten().next();
        let taken: Vec<_> = self.profile.upstreams.iter().map(|other| other.name.as_str()).collect();
        upstream.name = name(host.map_or("", String::as_str), &taken);
        if upstream.prefer && self.profile.upstreams.iter().any(|other| other.prefer) {
            self.leave_out(line, "prefer: one upstream can be preferred, and an earlier line has one");
            upstream.prefer = false;
        }
        self.profile.upstreams.push(upstream);
        self.from.push((line.number, line.shown().into_owned()));
        self.carry(line);
    }

    /// The access list is this.
    pub(super) fn set_restrict(&mut self, restrict: Vec<Restrict>) {
        self.profile.restrict = restrict;
    }

    /// Sources with a larger root distance are not used; `option` is what the file calls that.
    pub(super) fn set_max_distance(&mut self, line: &Line<'_>, option: &str, distance: Span) {
        let Range { least, most } = ranges::MAX_DISTANCE;
        if distance < least {
            let field = self.field("clock.maxDistance");
            return self.leave_out(line, format!("{option}: {field} goes from {least} to {most}"));
        }
        if distance > most {
            self.note(
                line,
                format!("{option}: {most} is the most, since a server beyond that is unsynchronised"),
            );
        }
        self.profile.clock.max_distance = distance.min(most);
        self.carry(line);
    }

    /// Where the hardware clock is. A policy cannot say that.
    pub(super) fn set_rtc_device(&mut self, line: &Line<'_>, device: &str) {
        match self.target {
            Target::Agent => {
                self.rtc_device = Some(PathBuf::from(device));
                self.carry(line);
            }
            Target::Policy if device == "/dev/rtc0" || device == "/dev/rtc" => {
                self.note(line, "the agents use /dev/rtc0");
            }
            Target::Policy => self.leave_out(
                line,
                "a policy has no field for the hardware clock's device: the chart sets it for all agents",
            ),
        }
    }

    /// The profile's name for a file with `content`: `key` of the Secret `secret`, or the file `key` in the agent's
    /// `keys_directory`.
    pub(super) fn file(&mut self, secret: &'static str, key: &str, content: impl Into<String>) -> String {
        let wanted = Wanted { secret, key: key.to_owned(), content: content.into() };
        let file = self.file_name(&wanted);
        if !self.secrets.iter().any(|other| (other.secret, &other.key) == (secret, &wanted.key)) {
            self.secrets.push(wanted);
        }
        file
    }

    fn file_name(&self, wanted: &Wanted) -> String {
        match self.target {
            Target::Policy => format!("{}_{}", wanted.secret, wanted.key),
            Target::Agent => wanted.key.clone(),
        }
    }

    /// The files that the profile speaks of.
    fn files(&self) -> BTreeSet<String> {
        let Profile { upstreams, serve, .. } = &self.profile;
        let of_upstreams = upstreams.iter().flat_map(|each| {
            [each.key.as_ref(), each.nts.as_ref().and_then(|nts| nts.ca.as_ref())].into_iter().flatten()
        });
        let of_server = serve.nts.iter().flat_map(|nts| [&nts.certificate, &nts.private_key]);
        of_upstreams.chain(&serve.keys).chain(of_server).cloned().collect()
    }

    /// Leaves out each upstream that cannot be; what is wrong beyond that, so that nothing can come of the file.
    pub(super) fn settle(&mut self) -> Vec<String> {
        // Each round takes an upstream away, so it ends.
        loop {
            let error = match profile::check(&self.profile) {
                Ok(checked) => {
                    for hint in checked.hints() {
                        let hint = self.field(hint);
                        self.remark(hint);
                    }
                    return Vec::new();
                }
                Err(error) => error,
            };
            let of_upstream = |field: &str| {
                let (index, part) = field.strip_prefix("upstreams[")?.split_once("].")?;
                Some((index.parse::<usize>().ok()?, part.to_owned()))
            };
            let last = error.problems().filter_map(|(field, why)| Some((of_upstream(field)?, why))).last();
            let Some(((index, part), why)) = last.filter(|((index, _), _)| *index < self.from.len()) else {
                return error
                    .problems()
                    .map(|(field, why)| {
                        format!("{}: {}{}", self.field(field), self.field(why), advice(field))
                    })
                    .collect();
            };
            let what = format!("the whole upstream, {}: {why}", self.field(&part));
            self.profile.upstreams.remove(index);
            let line = self.from.remove(index);
            self.carried.remove(&line.0);
            self.remarks.push(Remark { line, left_out: true, what });
        }
    }

    /// What was carried over.
    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where the hardware clock is, if that was said.
    pub(super) fn rtc_device(&self) -> Option<&Path> {
        self.rtc_device.as_deref()
    }

    /// Whether nothing that matters was left out.
    pub(super) fn is_complete(&self) -> bool {
        !self.remarks.iter().any(|remark| remark.left_out)
    }

    /// All remarks in the order of the lines, one per line of text.
    pub(super) fn remarks(&self, origin: &str) -> String {
        let mut ordered: Vec<_> = self.remarks.iter().collect();
        ordered.sort_by_key(|remark| remark.line.0);
        ordered.into_iter().fold(
            String::new(),
            |mut text, Remark { line: (number, shown), left_out, what }| {
                let kind = if *left_out { "left out" } else { "note" };
                let _ = match number {
                    0 => writeln!(text, "{origin}: {kind}: {what}"),
                    _ => writeln!(text, "{origin}:{number}: {kind}: `{shown}`: {what}"),
                };
                text
            },
        )
    }

    /// What has to be made beside the result; empty if that needs nothing.
    pub(super) fn secrets(&self) -> String {
        let mut text = String::new();
        let files = self.files();
        let needed = |wanted: &&Wanted| files.contains(&self.file_name(wanted));
        let secrets: Vec<_> = self.secrets.iter().filter(needed).collect();
        let names: BTreeSet<_> = secrets.iter().map(|wanted| wanted.secret).collect();
        match self.target {
            _ if names.is_empty() => {}
            Target::Policy => text.push_str(
                "Make these Secrets of files with these names; nothing was read from \
                 those that the lines name:\n",
            ),
            Target::Agent => text.push_str(
                "Make these files in /etc/timesync/keys, readable by root alone; nothing was read from those \
                 that the lines name:\n",
            ),
        }
        for &name in &names {
            let of_it: Vec<_> = secrets.iter().copied().filter(|wanted| wanted.secret == name).collect();
            if self.target == Target::Policy {
                let options = match of_it.as_slice() {
                    [Wanted { key: certificate, .. }, Wanted { key, .. }] if name == SERVER_SECRET => {
                        format!("tls {name} --cert={certificate} --key={key}")
                    }
                    of_it => {
                        let files = of_it.iter().map(|wanted| format!(" --from-file={}", wanted.key));
                        format!("generic {name}{}", files.collect::<String>())
                    }
                };
                let _ = writeln!(text, "  kubectl -n timesync-system create secret {options}");
            }
            for Wanted { key, content, .. } in of_it {
                let _ = writeln!(text, "  {key}: {content}");
            }
        }
        if self.target == Target::Policy && !names.is_empty() {
            let names = names.into_iter().collect::<Vec<_>>().join(" ");
            text.push_str("The operator gives nodes only Secrets with this label:\n");
            let _ =
                writeln!(text, "  kubectl -n timesync-system label secret {names} timesync.dev/keys=true");
        }
        text
    }

    /// How much of the file arrived.
    pub(super) fn count(&self, origin: &str) -> String {
        let lines = |left_out: bool| -> BTreeSet<usize> {
            self.remarks.iter().filter(|r| r.left_out == left_out && r.line.0 > 0).map(|r| r.line.0).collect()
        };
        let left_out = lines(true);
        let only_noted =
            lines(false).iter().filter(|n| !self.carried.contains(n) && !left_out.contains(n)).count();
        let carried = self.carried.difference(&left_out).count();
        let left_out = left_out.len();
        format!(
            "{origin}: {carried} {} carried over, {only_noted} not needed, {left_out} left out in whole or in part\n",
            if carried == 1 { "line" } else { "lines" }
        )
    }

    /// The lines that something became of.
    #[cfg(test)]
    pub(super) fn accounted(&self) -> BTreeSet<usize> {
        let said = self.remarks.iter().map(|remark| remark.line.0);
        said.filter(|number| *number > 0).chain(self.carried.iter().copied()).collect()
    }
}

/// What to write into the file, where the profile's words do not tell.
fn advice(field: &str) -> &'static str {
    match field {
        "clock.step.threshold" => {
            ". Say the larger one with tinker panic (ntp.conf) or maxchange (chrony.conf)"
        }
        _ => "",
    }
}

/// A name for an upstream at `host` that none of `taken` has: small letters, digits and single dashes.
fn name(host: &str, taken: &[&str]) -> String {
    let mut name = String::new();
    for c in host.trim_start_matches("/dev/").chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let cut = |name: &str, most: usize| name[..name.len().min(most)].trim_end_matches('-').to_owned();
    let name = if name.is_empty() { "upstream".to_owned() } else { cut(&name, LONGEST_NAME) };
    let numbered =
        (2..).map(|n: usize| format!("{}-{n}", cut(&name, LONGEST_NAME - 1 - n.to_string().len())));
    std::iter::once(name.clone())
        .chain(numbered)
        .find(|name| !taken.contains(&name.as_str()))
        .expect("of endlessly many names one is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_upstreams() {
        let check = |host: &str, taken: &[&str], expected: &str| assert_eq!(name(host, taken), expected);
        check("NTP1.example.com", &[], "ntp1-example-com");
        check("2001:db8::1", &[], "2001-db8-1");
        check("::1", &[], "1");
        check("a", &["a", "a-2"], "a-3");
        check("/dev/ptp0", &[], "ptp0");
        check("x.", &[], "x");
        check("ü", &[], "upstream");
        check("0123456789012345678901234567890.example", &[], "0123456789012345678901234567890");
        check(&"a".repeat(40), &[&"a".repeat(32)], &format!("{}-2", "a".repeat(30)));
    }
}
