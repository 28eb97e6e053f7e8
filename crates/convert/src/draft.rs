//! The result so far: the profile, the lines that its fields come from, the files with secrets that it names, and a
//! remark for each line whose meaning changes. `settle` checks that the profile can run.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use contract::Span;
use profile::{
    Profile, Restrict, Upstream,
    ranges::{LONGEST_NAME, MAX_DISTANCE, MOST_UPSTREAMS},
};

use crate::{
    Target,
    beside::Beside,
    lines::{Included, Line},
    remarks::{Fate, Remarks, Where},
    wanted::{self, Wanted},
};

/// An unfinished profile.
#[derive(Debug)]
pub(super) struct Draft<'b> {
    target: Target,
    /// The files and host names that lines name.
    pub(super) beside: &'b dyn Beside,
    /// The profile so far, without the upstreams, which [`Self::add`] adds, and without the access list.
    pub(super) profile: Profile,
    /// The line that each upstream comes from.
    pub(super) from: Vec<Where>,
    /// The line that each entry of the access list comes from; none for an entry that no line has.
    pub(super) restrict_from: Vec<Option<Where>>,
    /// The last line that set each field.
    pub(super) said_by: BTreeMap<&'static str, Where>,
    /// Lines with reference clocks, which are not in the result.
    pub(super) clocks_left_out: Vec<Where>,
    rtc_device: Option<PathBuf>,
    secrets: Vec<Wanted>,
    /// The remarks.
    pub(super) remarks: Remarks,
}

impl<'b> Draft<'b> {
    /// An empty draft.
    pub(super) fn new(target: Target, beside: &'b dyn Beside) -> Self {
        Self {
            target,
            beside,
            profile: Profile::default(),
            from: Vec::new(),
            restrict_from: Vec::new(),
            said_by: BTreeMap::new(),
            clocks_left_out: Vec::new(),
            rtc_device: None,
            secrets: Vec::new(),
            remarks: Remarks::default(),
        }
    }

    /// Records that the line is carried over.
    pub(super) fn carry(&mut self, line: &Line<'_>) {
        self.remarks.carry(line.at);
    }

    /// Records that the line is carried over into `field`, so that a message about the field can name the line.
    pub(super) fn set(&mut self, line: &Line<'_>, field: &'static str) {
        self.said_by.insert(field, Where::from(line));
        self.carry(line);
    }

    /// Records that the line is not needed, or is replaced by something with the same purpose.
    pub(super) fn note(&mut self, line: &Line<'_>, what: impl Into<String>) {
        self.tell(line, Fate::Unneeded, what);
    }

    /// Records that the line, or part of it, is not in the result, and that this changes the behavior.
    pub(super) fn leave_out(&mut self, line: &Line<'_>, what: impl Into<String>) {
        self.tell(line, Fate::LeftOut, what);
    }

    /// Records one of these two.
    pub(super) fn tell(&mut self, line: &Line<'_>, fate: Fate, what: impl Into<String>) {
        self.remarks.say(Where::from(line), fate, what.into());
    }

    /// Records a reference clock, which is not in the result.
    pub(super) fn leave_out_clock(&mut self, line: &Line<'_>, what: impl Into<String>) {
        self.clocks_left_out.push(Where::from(line));
        self.leave_out(line, what);
    }

    /// Adds the remark for a line that names other files. Returns true if the line is one.
    pub(super) fn included(&mut self, line: &Line<'_>) -> bool {
        match line.beside {
            None => return false,
            Some(Included::Read(files)) => {
                self.carry(line);
                self.note(line, files);
            }
            Some(Included::Nothing(why)) => self.note(line, why),
            Some(Included::LeftOut(why)) => self.leave_out(line, why),
        }
        true
    }

    /// Adds a remark to a line that has neither a result nor a remark so far: it could not be read.
    pub(super) fn account_for(&mut self, line: &Line<'_>) {
        if !self.remarks.has(line.at) {
            self.leave_out(line, "it has no value");
        }
    }

    /// Adds a remark on the whole file, printed before all others.
    pub(super) fn remark(&mut self, what: impl Into<String>) {
        self.remarks.say(Where::default(), Fate::Unneeded, what.into());
    }

    /// The kind of the result.
    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// Adds an upstream, and makes its name. `check` checks it later.
    pub(super) fn add(&mut self, line: &Line<'_>, mut upstream: Upstream) {
        upstream.name.clear();
        let same = |other: &Upstream| Upstream { name: String::new(), ..other.clone() } == upstream;
        if self.profile.upstreams.iter().any(same) {
            return self.note(
                line,
                "an earlier line names the same server: a server is asked once, and has one vote",
            );
        }
        if self.profile.upstreams.len() >= MOST_UPSTREAMS {
            return self.leave_out(
                line,
                format!("the whole upstream: at most {MOST_UPSTREAMS} are allowed, and the first {MOST_UPSTREAMS} are kept"),
            );
        }
        let host =
            [&upstream.server, &upstream.pool, &upstream.peer, &upstream.device].into_iter().flatten().next();
        let taken: Vec<_> = self.profile.upstreams.iter().map(|other| other.name.as_str()).collect();
        upstream.name = name(host.map_or("", String::as_str), &taken);
        self.profile.upstreams.push(upstream);
        self.from.push(Where::from(line));
        self.carry(line);
    }

    /// Sets the access list, each entry with the line that it comes from.
    pub(super) fn set_restrict(&mut self, restrict: Vec<(Restrict, Option<Where>)>) {
        (self.profile.restrict, self.restrict_from) = restrict.into_iter().unzip();
    }

    /// Sets the largest root distance of a usable source; `option` is the file's name for it.
    pub(super) fn set_max_distance(&mut self, line: &Line<'_>, option: &str, distance: Span) {
        let most = MAX_DISTANCE.most;
        if distance > most {
            self.note(
                line,
                format!("{option}: {most} is the largest value, since a more distant server counts as unsynchronised"),
            );
        }
        self.profile.clock.max_distance = distance.min(most);
        self.set(line, "clock.maxDistance");
    }

    /// Sets the device of the hardware clock, for which a policy has no field.
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
                "a policy has no field for the device of the hardware clock: the chart sets it for all agents",
            ),
        }
    }

    /// The profile's name for a file with `content`: `key` of the Secret `secret`, or the file `key` in the agent's
    /// `keysDirectory`.
    pub(super) fn file(&mut self, secret: &'static str, key: &str, content: impl Into<String>) -> String {
        let wanted = Wanted { secret, key: key.to_owned(), content: content.into() };
        let file = wanted.file_name(self.target);
        if !self.secrets.iter().any(|other| (other.secret, &other.key) == (secret, &wanted.key)) {
            self.secrets.push(wanted);
        }
        file
    }

    /// The profile.
    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The device of the hardware clock, if a line sets it.
    pub(super) fn rtc_device(&self) -> Option<&Path> {
        self.rtc_device.as_deref()
    }

    /// What the user must create in addition to the result.
    pub(super) fn secrets(&self) -> String {
        wanted::to_make(&self.secrets, &self.profile, self.target)
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
