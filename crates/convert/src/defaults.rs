//! The defaults of ntpd and chronyd that differ from the agent's: each is carried over if the result has a field for
//! it; else there is one remark for the whole file.
use crate::draft::Draft;

/// Of ntpd.
pub(super) fn of_ntp(draft: &mut Draft<'_>) {
    let step = draft.profile.clock.step;
    if step.limit > 0 {
        draft.remark(format!(
            "ntpd steps a clock at any time if it is off by more than 0.128 s, or the value of `tinker step`. Here a \
             clock that is off by more than {} is stepped at most {} times, between the node's boot and its first \
             synchronisation; later it is slewed",
            step.threshold, step.limit
        ));
    }
    of_both("ntpd", draft);
}

/// Of chronyd; `said` returns true if a directive is there.
pub(super) fn of_chrony(draft: &mut Draft<'_>, said: impl Fn(&str) -> bool) {
    if !said("makestep") && !said("initstepslew") {
        draft.profile.clock.step.limit = 0;
        draft.remark(
            "chronyd never steps a clock without makestep, so clock.step.limit is 0. Remove it to \
             step a clock that is far off at boot",
        );
    }
    if !said("maxchange") {
        let change = draft.profile.clock.max_change;
        draft.remark(format!(
            "without maxchange chronyd makes corrections of any size. Here clock.maxChange refuses, and reports, \
             corrections of more than {change} after the first synchronisation"
        ));
    }
    if !said("maxslewrate") {
        let rate = draft.profile.clock.max_slew_rate;
        draft.remark(format!(
            "without maxslewrate chronyd slews at up to 83333 ppm. Here clock.maxSlewRate is {rate} ppm, 0.5 ms \
             per second"
        ));
    }
    if !said("rtcsync") {
        draft.remark(
            "without rtcsync chronyd does not write the hardware clock. Here the kernel writes it every 11 \
             minutes while the clock is synchronised",
        );
    }
    of_both("chronyd", draft);
}

fn of_both(program: &str, draft: &mut Draft<'_>) {
    let followed = draft.profile.upstreams.iter().filter(|each| !each.noselect);
    let votes: u8 = followed
        .map(|each| {
            if each.pool.is_some() {
                each.max_sources.unwrap_or(profile::ranges::DEFAULT_MAX_SOURCES)
            } else {
                1
            }
        })
        .fold(0, u8::saturating_add);
    if votes > 2 && draft.profile.clock.min_sources.is_none() {
        draft.remark(format!(
            "{program} follows a single source if no other answers. Here two must agree, since there are more than \
             two sources; clock.minSources: 1 is {program}'s behaviour"
        ));
    }
    if draft.profile.upstreams.iter().any(|each| (each.min_poll, each.max_poll) == (6, 10)) {
        draft.remark(format!(
            "without minpoll and maxpoll {program} asks every 64 s to 1024 s, so that is written out. For your own \
             servers use shorter intervals, such as the defaults of minPoll and maxPoll: the clock gets better"
        ));
    }
}
