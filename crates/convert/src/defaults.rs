//! What ntpd and chronyd do where a file says nothing, as far as the agent does something else then: told once, for the
//! whole file, or carried over where the result can say it.
use crate::draft::Draft;

/// Of ntpd.
pub(super) fn of_ntp(draft: &mut Draft<'_>) {
    let step = draft.profile.clock.step;
    if step.limit > 0 {
        draft.remark(format!(
            "ntpd steps a clock that is more than 0.128 s off, or as `tinker step` says, whenever that happens. \
             Here one that is more \
             than {} off is stepped between the node's boot and its first synchronisation, {} times at most; later it is slewed",
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
            "chronyd never steps a clock without makestep, so clock.step.limit is 0. Without that a \
             clock that is far off at boot is stepped",
        );
    }
    if !said("maxchange") {
        let change = draft.profile.clock.max_change;
        draft.remark(format!(
            "chronyd makes corrections of any size without maxchange. Here one of more than \
             {change} is refused and told after the first synchronisation, as clock.maxChange says"
        ));
    }
    if !said("maxslewrate") {
        let rate = draft.profile.clock.max_slew_rate;
        draft.remark(format!(
            "chronyd slews by up to 83333 ppm without maxslewrate. Here it is {rate} ppm, as \
             clock.maxSlewRate says, 0.5 ms a second"
        ));
    }
    if !said("rtcsync") {
        draft.remark(
            "without rtcsync chronyd leaves the hardware clock alone. Here the kernel sets it every 11 \
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
            "{program} follows one source if it hears no other. Here two must agree, as there are more than two; \
             clock.minSources: 1 is {program}'s way"
        ));
    }
    if draft.profile.upstreams.iter().any(|each| (each.min_poll, each.max_poll) == (6, 10)) {
        draft.remark(format!(
            "where no minpoll and maxpoll are given {program} asks every 64 s to 1024 s, so that is written out. \
             To servers of your own \
             shorter polls, those that hold without minPoll, make a better clock"
        ));
    }
}
