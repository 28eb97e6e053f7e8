//! Makes the complete draft valid: fields, upstreams and entries that the check refuses are left out, with a remark on
//! their lines, so that the rest can run. If the profile is still invalid, the reasons are returned.
use std::{cmp::Reverse, collections::BTreeSet, mem};

use profile::{
    CheckError, Clock, Flag, Profile, Serve, Step, Stratum, Upstream,
    ranges::{MOST_RESTRICT, MOST_SERVE_KEYS},
};

use crate::{draft::Draft, remarks::Fate};

/// Makes the draft valid. Returns what is wrong with the whole file.
pub(super) fn settle(draft: &mut Draft<'_>, keep_local: bool) -> Vec<String> {
    one_preferred(draft);
    cut_restrict(draft);
    // Each round removes something, so the loop ends.
    loop {
        let error = match profile::check(&draft.profile) {
            Ok(checked) => {
                checked.hints().iter().for_each(|hint| draft.remark(hint));
                return unsafe_local_stratum(draft, keep_local).into_iter().collect();
            }
            Err(error) => error,
        };
        if leave_out_upstream(draft, &error)
            || error.problems().any(|(field, why)| leave_out_field(draft, field, why))
        {
            continue;
        }
        let nobody_to_ask = draft.profile.upstreams.is_empty();
        let said = error.problems().map(|(field, why)| match field {
            "upstreams" if nobody_to_ask => "no line names a time source that can be used: write a server, pool or peer line. Where servers \
                 come from DHCP or from other files, convert the file on its machine, or name a copy of the machine's files with --root"
                .to_owned(),
            _ => format!("{field}: {why}"),
        });
        let mut said: Vec<_> = said.collect();
        said.extend(draft.clocks_left_out.first().map(|_| {
            "reference clocks of the file are left out: name a server that has them, or a PTP device"
                .to_owned()
        }));
        return said;
    }
}

/// Leaves out the last upstream that the check refuses. Returns true if there was one.
fn leave_out_upstream(draft: &mut Draft<'_>, error: &CheckError) -> bool {
    let of_upstream = |field: &str| {
        let (index, part) = field.strip_prefix("upstreams[")?.split_once("].")?;
        Some((index.parse::<usize>().ok()?, part.to_owned()))
    };
    let last = error.problems().filter_map(|(field, why)| Some((of_upstream(field)?, why))).last();
    let Some(((index, part), why)) = last.filter(|((index, _), _)| *index < draft.from.len()) else {
        return false;
    };
    let what = format!("the whole upstream, {part}: {why}");
    draft.profile.upstreams.remove(index);
    let line = draft.from.remove(index);
    draft.remarks.take_back(line.at);
    draft.remarks.say(line, Fate::LeftOut, what);
    true
}

/// Resets a field that the check refuses, if a line had set it. Returns true if one had.
fn leave_out_field(draft: &mut Draft<'_>, field: &str, why: &str) -> bool {
    let (field, why) = to_blame(draft.profile.clock, field, why);
    let Some(said) = draft.said_by.keys().copied().find(|said| field.starts_with(said)) else { return false };
    let Some(line) = draft.said_by.remove(said) else { return false };
    let Profile { clock, serve, stratum, .. } = &mut draft.profile;
    let (plain_clock, plain_serve) = (Clock::default(), Serve::default());
    match said {
        "stratum" => *stratum = Stratum::default(),
        "clock.step" => clock.step = Step { limit: clock.step.limit, ..Step::default() },
        "clock.maxChange" => clock.max_change = plain_clock.max_change,
        "clock.maxDistance" => clock.max_distance = plain_clock.max_distance,
        "clock.maxSlewRate" => clock.max_slew_rate = plain_clock.max_slew_rate,
        "clock.minSources" => clock.min_sources = None,
        "serve.rateLimit" => serve.rate_limit = plain_serve.rate_limit,
        "serve.port" => serve.port = plain_serve.port,
        "serve.keys" => serve.keys.truncate(MOST_SERVE_KEYS),
        "serve.nts" => serve.nts = None,
        _ => return false,
    }
    let what = format!("{field}: {why}");
    draft.remarks.take_back(line.at);
    draft.remarks.say(line, Fate::LeftOut, what);
    true
}

/// The field whose line is left out, and why. If a step and a largest change contradict each other, it is the largest
/// change if the step is the default.
fn to_blame(clock: Clock, field: &str, why: &str) -> (String, String) {
    let Clock { step: Step { threshold, .. }, max_change, .. } = clock;
    match field {
        "clock.step.threshold" if threshold == Step::default().threshold => (
            "clock.maxChange".to_owned(),
            format!("{max_change} is smaller than clock.step.threshold, {threshold}"),
        ),
        "clock.step.threshold" if threshold > max_change => {
            let advice = "Set a larger one with tinker panic (ntp.conf) or maxchange (chrony.conf)";
            (field.to_owned(), format!("{why}. {advice}"))
        }
        _ => (field.to_owned(), why.to_owned()),
    }
}

/// Returns why a server must not serve its own clock: its reference clocks are left out, so nothing sets the clock, and
/// clients would still see the former stratum.
fn unsafe_local_stratum(draft: &mut Draft<'_>, keep_local: bool) -> Option<String> {
    let (local, clock) = (draft.profile.stratum.local?, draft.clocks_left_out.first()?);
    let no_upstream = draft.profile.upstreams.iter().all(|each| each.noselect);
    if !no_upstream && local > 1 {
        return None;
    }
    let why = format!(
        "stratum.local: {local} would tell clients that this node's own clock is good at stratum {local}, though the \
         reference clocks that set it are left out (the first is {clock}{})",
        if no_upstream { ", and there is no other upstream" } else { "" }
    );
    if keep_local {
        draft.remark(format!("{why}. It is kept because of --keep-local"));
        return None;
    }
    Some(format!(
        "{why}. Delete the line that sets it, add a server that reads those clocks, or keep it with --keep-local"
    ))
}

/// Only one upstream can be preferred. If a file prefers several, it is a device if there is one, since a device is
/// nearer than any server; none if all upstreams are preferred; else the first one.
fn one_preferred(draft: &mut Draft<'_>) {
    let upstreams = &draft.profile.upstreams;
    let preferred: Vec<usize> = (0..upstreams.len()).filter(|n| upstreams[*n].prefer).collect();
    if preferred.len() < 2 {
        return;
    }
    let is_device = |n: &usize| upstreams[*n].device.is_some();
    let all = upstreams.iter().all(|each: &Upstream| each.prefer || each.noselect);
    let (kept, fate, why) = match (preferred.iter().copied().find(|n| is_device(n)), all) {
        (Some(device), _) => {
            (Some(device), Fate::Unneeded, "prefer: the device has it, and only one upstream may have it")
        }
        (None, true) => (None, Fate::Unneeded, "prefer: it has no effect if all upstreams have it"),
        (None, false) => (
            preferred.first().copied(),
            Fate::LeftOut,
            "prefer: only one upstream may have it, and an earlier line has it",
        ),
    };
    for n in preferred.into_iter().filter(|n| Some(*n) != kept) {
        draft.profile.upstreams[n].prefer = false;
        draft.remarks.say(draft.from[n].clone(), fate, why.to_owned());
    }
}

/// Leaves out entries beyond the limit, first those that deny the least. No client gets more rights by that.
fn cut_restrict(draft: &mut Draft<'_>) {
    let list = &draft.profile.restrict;
    let excess = list.len().saturating_sub(MOST_RESTRICT);
    let denies = |n: &usize| {
        let flags = [Flag::Ignore, Flag::Noserve, Flag::Notrust, Flag::Version, Flag::Noquery, Flag::Limited];
        flags.iter().filter(|flag| list[*n].flags.contains(flag)).count()
    };
    let can_go = |n: &usize| draft.restrict_from[*n].is_some() && !KEPT.contains(&list[*n].source.as_str());
    let mut gone: Vec<usize> = (0..list.len()).filter(can_go).collect();
    // Among those that deny the same, the last ones.
    gone.sort_by_key(|n| (denies(n), Reverse(*n)));
    gone.truncate(excess);
    let gone: BTreeSet<usize> = gone.into_iter().collect();
    let entries = mem::take(&mut draft.profile.restrict).into_iter().zip(mem::take(&mut draft.restrict_from));
    for (n, (entry, line)) in entries.enumerate() {
        if !gone.contains(&n) {
            draft.profile.restrict.push(entry);
            draft.restrict_from.push(line);
            continue;
        }
        let line = line.unwrap_or_default();
        draft.remarks.take_back(line.at);
        let what = format!(
            "the entry for {}: there can be {MOST_RESTRICT}. Those that deny the least were left out first: write fewer, \
             larger networks",
            entry.source
        );
        draft.remarks.say(line, Fate::LeftOut, what);
    }
}

/// The entries that all others depend on.
const KEPT: [&str; 6] = ["default", "0.0.0.0/0", "::/0", "127.0.0.1", "::1", "source"];
