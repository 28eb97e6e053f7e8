//! Checked profile → the engine's configuration and the access list. Only this file translates the profile's words into
//! the engine's. Nothing can fail here.
use ntp::{Cidr, RestrictEntry, RestrictFlags, RestrictTable};
use profile::{Access, AccessSource, Checked, Flag, Network, Place, Source, ranges};

use crate::{key_server::KeyServing, server::ServeConfig};

/// The engine's configuration. `may_set_clock` is true if this process has the right to set the clock: without it the
/// agent only observes.
pub(crate) fn engine_config(checked: &Checked, may_set_clock: bool) -> ntp::Config {
    let clock = checked.clock();
    ntp::Config {
        mode: match checked.mode() {
            contract::Mode::Discipline if may_set_clock => ntp::Mode::Discipline,
            contract::Mode::Discipline | contract::Mode::Observe => ntp::Mode::Observe,
        },
        sources: checked.sources().iter().map(source).collect(),
        step_threshold: clock.step.threshold.as_secs_f64(),
        step_limit: clock.step.limit,
        max_slew_rate: f64::from(clock.max_slew_rate) * 1e-6,
        max_change: clock.max_change.as_secs_f64(),
        max_distance: clock.max_distance.as_secs_f64(),
        error_bound_threshold: checked.thresholds().error_bound.as_secs_f64(),
        local: checked.local().map(local_clock),
        min_sources: checked.min_sources(),
        leap: match clock.leap.mode {
            profile::LeapMode::Kernel => ntp::LeapMode::Kernel,
            profile::LeapMode::Step => ntp::LeapMode::Step,
            profile::LeapMode::Slew => ntp::LeapMode::Slew,
            profile::LeapMode::Ignore => ntp::LeapMode::Ignore,
        },
        smeared: match clock.leap.smear {
            profile::Smear::None => false,
            profile::Smear::Upstream => true,
        },
        on_external_step: match clock.on_external_step {
            profile::OnExternalStep::Restore => ntp::OnExternalStep::Restore,
            profile::OnExternalStep::Accept => ntp::OnExternalStep::Accept,
            profile::OnExternalStep::Report => ntp::OnExternalStep::Report,
        },
    }
}

fn local_clock(local: profile::LocalClock) -> ntp::LocalClock {
    let profile::LocalClock { stratum, orphan, activate_after } = local;
    ntp::LocalClock { stratum, orphan, activate_after: activate_after.as_secs_f64() }
}

fn source(source: &Source) -> ntp::Source {
    let Source { place, upstream } = source.clone();
    let profile::Upstream {
        name,
        server: _,
        peer: _,
        pool: _,
        max_sources: _,
        device: _,
        port,
        iburst,
        burst,
        interleaved,
        prefer,
        trust,
        require,
        noselect,
        min_poll,
        max_poll,
        key,
        nts,
    } = upstream;
    ntp::Source {
        name,
        upstream: match place {
            Place::Server { host } => ntp::Upstream::Server { host, port },
            Place::Pool { host, max_sources } => ntp::Upstream::Pool { host, port, max_sources },
            Place::Device { path } => ntp::Upstream::Device { path },
        },
        auth: match (key, nts) {
            (Some(key), _) => ntp::Auth::Key(key),
            (None, Some(profile::Nts { ca, port })) => ntp::Auth::Nts { ca, port },
            (None, None) => ntp::Auth::None,
        },
        iburst,
        burst,
        interleaved,
        prefer,
        trust,
        require,
        noselect,
        min_poll,
        max_poll,
    }
}

/// What the server serves, and to which clients.
pub(crate) fn serve_config(checked: &Checked) -> ServeConfig {
    let profile::Serve { enabled, port, addresses: _, rate_limit, workers: _, keys: _, nts: _ } =
        checked.serve();
    let profile::RateLimit { interval, burst, leak, max_clients: _ } = *rate_limit;
    ServeConfig {
        enabled: *enabled,
        port: *port,
        addresses: checked.addresses(),
        workers: checked.workers(),
        limit: ntp::RateLimit { interval, burst, leak },
        max_clients: checked.max_clients(),
        rules: restrict_table(checked.access()),
    }
}

/// What the server of NTS key exchange is to do; none if it is not to run.
pub(crate) fn key_serving(checked: &Checked) -> Option<KeyServing> {
    let profile::Serve { enabled, port: ntp_port, nts, .. } = checked.serve();
    let profile::ServeNts { certificate, private_key, cookie_keys, port } =
        nts.clone().filter(|_| *enabled)?;
    let ntp_port = Some(*ntp_port).filter(|port| *port != ranges::NTP_PORT);
    let addresses = checked.addresses();
    Some(KeyServing { certificate, private_key, cookie_keys, addresses, port, ntp_port })
}

/// The server's configuration while no profile runs: it answers no client.
pub(crate) fn serve_nothing() -> ServeConfig {
    let profile::RateLimit { interval, burst, leak, max_clients: _ } = profile::RateLimit::default();
    ServeConfig {
        enabled: false,
        port: 0,
        addresses: Vec::new(),
        workers: 1,
        limit: ntp::RateLimit { interval, burst, leak },
        max_clients: ranges::DEFAULT_MAX_CLIENTS as usize,
        rules: RestrictTable::new(&[]),
    }
}

/// The access list in the form that the server searches.
pub(crate) fn restrict_table(access: &[Access]) -> RestrictTable {
    let (mut entries, mut template) = (Vec::new(), None);
    for Access { source, flags } in access {
        let (ntpport, flags) = restrict_flags(flags.iter().copied());
        match source {
            AccessSource::Everybody => {
                let all = [Cidr::ALL_V4, Cidr::ALL_V6];
                entries.extend(all.map(|network| RestrictEntry { network, ntpport, flags }));
            }
            AccessSource::Network(network) => {
                entries.push(RestrictEntry { network: cidr(*network), ntpport, flags });
            }
            AccessSource::Upstreams => template = Some(flags),
        }
    }
    RestrictTable::new(&entries).with_template(template)
}

fn cidr(network: Network) -> Cidr {
    Cidr::new(network.address(), network.bits()).expect("a network's host bits are zero, as a Cidr's")
}

/// Returns true if the entry is for port 123 only, and the flags of the entry.
fn restrict_flags(given: impl Iterator<Item = Flag>) -> (bool, RestrictFlags) {
    let (mut ntpport, mut flags) = (false, RestrictFlags::default());
    for flag in given {
        match flag {
            Flag::Ignore => flags.ignore = true,
            Flag::Kod => flags.kod = true,
            Flag::Limited => flags.limited = true,
            Flag::Noserve => flags.noserve = true,
            Flag::Noquery => flags.noquery = true,
            Flag::Notrust => flags.notrust = true,
            Flag::Version => flags.version = true,
            Flag::Ntpport => ntpport = true,
            // The server has nothing to modify, to mobilise, to list, to sign or to trap.
            Flag::Nomodify
            | Flag::Nopeer
            | Flag::Noepeer
            | Flag::Nomrulist
            | Flag::Mssntp
            | Flag::Notrap
            | Flag::Lowpriotrap => {}
        }
    }
    (ntpport, flags)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use profile::Profile;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_and_rights() {
        let profile: Profile = toml::from_str(
            "[[upstreams]]\nname = \"a\"\nserver = \"ntp.example.com\"\niburst = true\nprefer = true\nminPoll = 1\n\
             [clock]\nmaxSlewRate = 5000\nmaxChange = \"2m\"\nstep = { threshold = \"20ms\", limit = 1 }\nonExternalStep = \"Report\"\n\
             [stratum]\nlocal = 10\n",
        )
        .unwrap();
        let checked = profile::check(&profile).unwrap();
        let config = engine_config(&checked, true);
        assert_eq!(
            (config.mode, config.step_limit, config.local),
            (
                ntp::Mode::Discipline,
                1,
                Some(ntp::LocalClock { stratum: 10, orphan: false, activate_after: 64.0 })
            )
        );
        assert_eq!((config.step_threshold, config.max_slew_rate, config.max_change), (0.02, 5e-3, 120.0));
        assert_eq!(config.error_bound_threshold, 0.2);
        assert_eq!(config.on_external_step, ntp::OnExternalStep::Report);
        assert_eq!(
            config.sources,
            [ntp::Source {
                name: "a".to_owned(),
                upstream: ntp::Upstream::Server { host: "ntp.example.com".to_owned(), port: 123 },
                auth: ntp::Auth::None,
                iburst: true,
                burst: false,
                interleaved: false,
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
    fn kinds_and_proofs() {
        let profile: Profile = toml::from_str(
            "[[upstreams]]\nname = 'p'\npool = 'p.example'\nmaxSources = 3\nnts = {}\nburst = true\n\
             interleaved = true\n[[upstreams]]\nname = 'd'\ndevice = '/dev/ptp0'\ntrust = true\n\
             [[upstreams]]\nname = 'k'\nserver = 'k.example'\nport = 124\nkey = 's_k'\nrequire = true\n\
             [[upstreams]]\nname = 'n'\nserver = 'n.example'\nnts = { ca = 's_ca', port = 4461 }\nnoselect = true\n\
             [clock]\nleap = { mode = 'Slew', smear = 'Upstream' }",
        )
        .unwrap();
        let config = engine_config(&profile::check(&profile).unwrap(), true);
        let [pool, device, keyed, named] = config.sources.as_slice() else { panic!("{:?}", config.sources) };
        let host = "p.example".to_owned();
        assert_eq!(pool.upstream, ntp::Upstream::Pool { host, port: 123, max_sources: 3 });
        assert_eq!((&pool.auth, pool.burst), (&ntp::Auth::Nts { ca: None, port: 4460 }, true));
        assert!(pool.interleaved && !device.interleaved);
        assert_eq!(device.upstream, ntp::Upstream::Device { path: "/dev/ptp0".to_owned() });
        assert_eq!((&device.auth, device.trust), (&ntp::Auth::None, true));
        let host = "k.example".to_owned();
        assert_eq!(keyed.upstream, ntp::Upstream::Server { host, port: 124 });
        assert_eq!((&keyed.auth, keyed.require), (&ntp::Auth::Key("s_k".to_owned()), true));
        assert_eq!(
            (&named.auth, named.noselect),
            (&ntp::Auth::Nts { ca: Some("s_ca".to_owned()), port: 4461 }, true)
        );
        assert_eq!((config.leap, config.smeared, config.min_sources), (ntp::LeapMode::Slew, true, 2));
    }

    #[test]
    fn orphans_and_peers() {
        let check = |text: &str, stratum: u8, orphan: bool, activate_after: f64| {
            let text = format!("[[upstreams]]\nname = 'p'\npeer = '192.0.2.7'\n[stratum]\n{text}");
            let config = engine_config(&profile::check(&toml::from_str(&text).unwrap()).unwrap(), true);
            assert_eq!(config.local, Some(ntp::LocalClock { stratum, orphan, activate_after }), "{text}");
            let host = "192.0.2.7".to_owned();
            assert_eq!(config.sources[0].upstream, ntp::Upstream::Server { host, port: 123 });
        };
        check("local = 12", 12, false, 64.0);
        check("local = 12\nactivateAfter = '1500ms'", 12, false, 1.5);
        check("local = 10\norphan = true", 10, true, 300.0);
        check("local = 10\norphan = true\nactivateAfter = '0s'", 10, true, 0.0);
    }

    #[test]
    fn clients_are_told_an_unusual_port() {
        let serving = |text: &str| {
            let text = format!(
                "mode = 'Observe'\n[serve]\n{text}\n[serve.nts]\ncertificate = 'c'\nprivateKey = 'k'\ncookieKeys = 's'"
            );
            key_serving(&profile::check(&toml::from_str(&text).unwrap()).unwrap())
        };
        let expected = KeyServing {
            certificate: "c".to_owned(),
            private_key: "k".to_owned(),
            cookie_keys: Some("s".to_owned()),
            addresses: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
            port: 4460,
            ntp_port: None,
        };
        assert_eq!(serving(""), Some(expected.clone()));
        assert_eq!(serving("port = 124"), Some(KeyServing { ntp_port: Some(124), ..expected }));
        assert_eq!(serving("enabled = false"), None);
    }

    #[test]
    fn so_many_sources_must_agree() {
        let check = |text: &str, expected: usize| {
            let profile: Profile = toml::from_str(text).unwrap();
            assert_eq!(
                engine_config(&profile::check(&profile).unwrap(), true).min_sources,
                expected,
                "{text}"
            );
        };
        let server = |name: &str| format!("[[upstreams]]\nname = '{name}'\nserver = '{name}.example'\n");
        let two = server("a") + &server("b");
        check(&server("a"), 1);
        check(&two, 1);
        check(&(two.clone() + &server("c")), 2);
        check(&(two.clone() + &server("c") + "noselect = true"), 1);
        check(&(two + "[clock]\nminSources = 2"), 2);
        check("[[upstreams]]\nname = 'p'\npool = 'p.example'", 2);
        check("[[upstreams]]\nname = 'p'\npool = 'p.example'\nmaxSources = 2", 1);
        check("stratum.local = 10", 1);
        let peer = |name: &str| format!("[[upstreams]]\nname = '{name}'\npeer = '{name}.example'\n");
        check(&(server("a") + &peer("b") + &peer("c")), 1);
        check(&(server("a") + &server("b") + &server("c") + &peer("d")), 2);
    }

    #[test]
    fn the_safe_default_serves_everybody_at_a_limited_rate() {
        let checked =
            profile::check(&Profile { mode: contract::Mode::Observe, ..Profile::default() }).unwrap();
        let table = restrict_table(checked.access());
        for stranger in ["192.0.2.1", "2001:db8::1"] {
            let flags = table.flags(stranger.parse().unwrap(), 40_000);
            assert_eq!(
                flags,
                RestrictFlags { limited: true, kod: true, noquery: true, ..RestrictFlags::default() }
            );
        }
        for own in ["127.0.0.1", "::1"] {
            assert_eq!(table.flags(own.parse().unwrap(), 40_000), RestrictFlags::default());
        }
    }

    /// Access lists that cover few addresses, so that entries often overlap.
    fn access_lists() -> impl Strategy<Value = String> {
        let source = prop::sample::select(vec![
            "default",
            "source",
            "0.0.0.0/0",
            "::/0",
            "192.0.2.0/24",
            "192.0.2.1",
            "192.0.2.1/32",
            "192.0.2.0/31",
            "2001:db8::/32",
            "2001:db8::1",
            "2001:db8:0::1",
            "10.0.0.0/8",
        ]);
        let flags = prop::sample::subsequence(vec!["ignore", "ntpport", "kod", "noserve", "notrust"], 0..=5);
        prop::collection::vec((source, flags), 1..8).prop_map(|entries| {
            let (mut list, mut seen) = (String::new(), BTreeSet::new());
            for (source, mut flags) in entries {
                flags.retain(|flag| source != "source" || !["ignore", "ntpport"].contains(flag));
                // The check refuses an entry that occurs twice.
                if seen.insert((source, flags.contains(&"ntpport"))) {
                    list += &format!("[[restrict]]\nsource = {source:?}\nflags = {flags:?}\n");
                }
            }
            list
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// The check reads the access list with code of its own, since the operator does not use `ntp`. The two must
        /// agree.
        #[test]
        fn the_check_reads_the_access_list_as_the_server_does(list in access_lists(), port in prop::sample::select(vec![123_u16, 1123])) {
            let profile: Profile = toml::from_str(&format!("mode = 'Observe'\n{list}")).unwrap();
            let checked = profile::check(&profile).unwrap();
            let table = restrict_table(checked.access());
            for address in ["192.0.2.0", "192.0.2.1", "192.0.2.9", "10.0.0.1", "198.51.100.1", "2001:db8::1", "2001:db8::2", "::1"] {
                let address = address.parse().unwrap();
                let ignored = profile::ignores(checked.access(), address, port);
                prop_assert_eq!(ignored, table.ignores_upstream(address, port), "{} {} {}", address, port, list);
                for is_upstream in [false, true] {
                    let table = table.for_upstreams(if is_upstream { std::slice::from_ref(&address) } else { &[] });
                    let flags = table.flags(address, 1123);
                    for has_key in [false, true] {
                        let dropped = flags.ignore || flags.noserve || (flags.notrust && !has_key);
                        let found = profile::drops_request(checked.access(), address, is_upstream, has_key);
                        prop_assert_eq!(found.is_some(), dropped, "{} {} {}", address, is_upstream, list);
                    }
                }
            }
        }
    }
}
