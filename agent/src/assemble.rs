//! Checked → what the engine and the access list are made from. The one place where the profile's words become the
//! engine's; nothing can fail here.
use contract::Flag;
use ntp::{RestrictEntry, RestrictFlags, RestrictTable};

use crate::{
    check::{Access, Checked},
    server::ServeConfig,
};

/// The engine's orders. `may_set_clock` is whether this process has the right: without it the agent observes.
pub(crate) fn engine_config(checked: &Checked, may_set_clock: bool) -> ntp::Config {
    ntp::Config {
        mode: match checked.mode {
            contract::Mode::Discipline if may_set_clock => ntp::Mode::Discipline,
            contract::Mode::Discipline | contract::Mode::Observe => ntp::Mode::Observe,
        },
        sources: checked.upstreams.iter().map(source).collect(),
        step_threshold: checked.clock.step.threshold.as_secs_f64(),
        step_limit: checked.clock.step.limit,
        max_slew_rate: f64::from(checked.clock.max_slew_rate) * 1e-6,
        max_change: checked.clock.max_change.as_secs_f64(),
        error_bound_threshold: checked.thresholds.error_bound.as_secs_f64(),
        local_stratum: checked.local_stratum,
        min_sources: 1,
        leap: ntp::LeapMode::Kernel,
        smeared: false,
    }
}

fn source(upstream: &contract::Upstream) -> ntp::Source {
    let contract::Upstream { name, server, port, iburst, prefer, min_poll, max_poll, key, nts } =
        upstream.clone();
    let auth = match (key, nts) {
        (Some(file), _) => ntp::Auth::Key(file),
        (None, Some(contract::Nts { ca, port })) => ntp::Auth::Nts { ca, port },
        (None, None) => ntp::Auth::None,
    };
    ntp::Source {
        name,
        upstream: ntp::Upstream::Server { host: server, port },
        auth,
        iburst,
        burst: false,
        prefer,
        trust: false,
        require: false,
        noselect: false,
        min_poll,
        max_poll,
    }
}

/// What is served to whom.
pub(crate) fn serve_config(checked: &Checked) -> ServeConfig {
    let contract::Serve { enabled, port, rate_limit: contract::RateLimit { interval, burst, leak } } =
        checked.serve;
    let limit = ntp::RateLimit { interval, burst, leak };
    ServeConfig { enabled, port, limit, rules: restrict_table(&checked.access) }
}

/// Nothing to anybody: while no profile runs.
pub(crate) fn serve_nothing() -> ServeConfig {
    let contract::RateLimit { interval, burst, leak } = contract::RateLimit::default();
    let limit = ntp::RateLimit { interval, burst, leak };
    ServeConfig { enabled: false, port: 0, limit, rules: RestrictTable::new(&[]) }
}

/// The access list as the server searches it.
pub(crate) fn restrict_table(access: &[Access]) -> RestrictTable {
    let entry = |access: &Access| {
        let (ntpport, flags) = restrict_flags(access.flags.iter().copied());
        access.networks.clone().into_iter().map(move |network| RestrictEntry { network, ntpport, flags })
    };
    RestrictTable::new(&access.iter().flat_map(entry).collect::<Vec<_>>())
}

/// Whether the entry is for port 123 only, and what holds.
fn restrict_flags(given: impl Iterator<Item = Flag>) -> (bool, RestrictFlags) {
    let (mut ntpport, mut flags) = (false, RestrictFlags::default());
    for flag in given {
        match flag {
            Flag::Ignore => flags.ignore = true,
            Flag::Kod => flags.kod = true,
            Flag::Limited => flags.limited = true,
            Flag::Noserve => flags.noserve = true,
            Flag::Notrust => flags.notrust = true,
            Flag::Version => flags.version = true,
            Flag::Ntpport => ntpport = true,
            // There is nothing to modify, to mobilise, to query or to trap.
            Flag::Nomodify | Flag::Nopeer | Flag::Noquery | Flag::Notrap => {}
        }
    }
    (ntpport, flags)
}

#[cfg(test)]
mod tests {
    use contract::Profile;

    use super::*;
    use crate::check;

    #[test]
    fn units_and_rights() {
        let profile: Profile = toml::from_str(
            "[[upstreams]]\nname = \"a\"\nserver = \"ntp.example.com\"\niburst = true\nprefer = true\nmin_poll = 1\n\
             [clock]\nmax_slew_rate = 5000\nmax_change = \"2m\"\nstep = { threshold = \"20ms\", limit = 1 }\n\
             [stratum]\nlocal = 10\n",
        )
        .unwrap();
        let checked = check::check(&profile).unwrap();
        let config = engine_config(&checked, true);
        assert_eq!(
            (config.mode, config.step_limit, config.local_stratum),
            (ntp::Mode::Discipline, 1, Some(10))
        );
        assert_eq!((config.step_threshold, config.max_slew_rate, config.max_change), (0.02, 5e-3, 120.0));
        assert_eq!(config.error_bound_threshold, 0.2);
        assert_eq!(
            config.sources,
            [ntp::Source {
                name: "a".to_owned(),
                upstream: ntp::Upstream::Server { host: "ntp.example.com".to_owned(), port: 123 },
                auth: ntp::Auth::None,
                iburst: true,
                burst: false,
                prefer: true,
                trust: false,
                require: false,
                noselect: false,
                min_poll: 1,
                max_poll: 6,
            }]
        );
        assert_eq!(engine_config(&checked, false).mode, ntp::Mode::Observe);
    }

    #[test]
    fn the_safe_default_serves_everybody_at_a_limited_rate() {
        let checked = check::check(&Profile { mode: contract::Mode::Observe, ..Profile::default() }).unwrap();
        let table = restrict_table(&checked.access);
        for stranger in ["192.0.2.1", "2001:db8::1"] {
            let flags = table.flags(stranger.parse().unwrap(), 40_000);
            assert_eq!(flags, RestrictFlags { limited: true, kod: true, ..RestrictFlags::default() });
        }
        for own in ["127.0.0.1", "::1"] {
            assert_eq!(table.flags(own.parse().unwrap(), 40_000), RestrictFlags::default());
        }
    }
}
