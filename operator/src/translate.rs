//! Translates the vocabulary of the API into that of the profile; no other file does. A policy's spec in; a
//! [`profile::Profile`], or the reason of a refusal, out. No client, no clock. An absent field keeps the profile's own
//! default.
use std::collections::BTreeSet;

use contract::{Span, key_files};
use kube::core::Selector;
use profile::{CheckError, Profile};

mod field;
mod label_selector;
mod nodes;

pub(crate) use field::FieldError;
pub(crate) use nodes::{Counts, tiers, with_members};

use crate::translate::{field::fit, label_selector::label_selector};

/// Rewrites an error of the profile's check with the policy's field names. Where a profile names a file, a policy names
/// the Secret that becomes the file. `counts`: how many upstreams of the profile each upstream with nodes became.
pub(crate) fn in_the_words_of_the_spec(error: &CheckError, counts: &Counts) -> FieldError {
    let written = |field: &str| match field {
        "serve.nts.certificate" | "serve.nts.privateKey" => "serve.nts.tlsSecret".to_owned(),
        _ => {
            let field = counts.in_the_spec(field);
            match field.strip_suffix(".key") {
                Some(upstream) => format!("{upstream}.keyRef"),
                None => field,
            }
        }
    };
    let mut problems = error.problems().map(|(field, problem)| (written(field), problem.to_owned()));
    let (field, mut problem) = problems.next().unwrap_or_default();
    for (field, also) in problems {
        problem = format!("{problem}; spec.{field}: {also}");
    }
    FieldError::new(field, problem)
}

/// The profile that a spec asks for, before its check. A number that the profile's types cannot hold is refused here. In
/// place of the nodes of a tier it has names that resolve to nothing: see [`with_members`].
pub(crate) fn profile(spec: &api::TimeSyncPolicySpec) -> Result<Profile, FieldError> {
    let api::TimeSyncPolicySpec {
        node_selector: _,
        priority: _,
        mode,
        upstreams,
        restrict,
        stratum: alone,
        serve: serving,
        clock: moving,
        rtc,
        timezone,
        thresholds: limits,
        // The operator's own: see `rollout` and `node_fields`.
        rollout: _,
        node_taint: _,
    } = spec;
    let listed = upstreams.iter().flatten().enumerate();
    Ok(Profile {
        mode: match mode {
            api::Mode::Discipline => contract::Mode::Discipline,
            api::Mode::Observe => contract::Mode::Observe,
        },
        upstreams: listed
            .map(|(index, each)| nodes::expected(index, each, upstream(index, each)?))
            .collect::<Result<Vec<_>, FieldError>>()?
            .concat(),
        restrict: restrict.iter().flatten().map(entry).collect(),
        stratum: alone.as_ref().map_or(Ok(profile::Stratum::default()), stratum)?,
        serve: serving.as_ref().map_or(Ok(profile::Serve::default()), serve)?,
        clock: moving.as_ref().map_or(Ok(profile::Clock::default()), clock)?,
        rtc: profile::Rtc {
            mode: match rtc.as_ref().map(|rtc| rtc.mode).unwrap_or_default() {
                api::RtcMode::Kernel => profile::RtcMode::Kernel,
                api::RtcMode::Verified => profile::RtcMode::Verified,
            },
        },
        timezone: timezone.clone(),
        thresholds: limits.as_ref().map_or(Ok(profile::Thresholds::default()), thresholds)?,
    })
}

fn upstream(index: usize, upstream: &api::Upstream) -> Result<profile::Upstream, FieldError> {
    let api::Upstream {
        name,
        server,
        pool,
        max_sources,
        peer,
        nodes: _,
        device,
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
        nts,
        key_ref,
    } = upstream;
    let field = |name: &str| format!("upstreams[{index}].{name}");
    Ok(profile::Upstream {
        name: name.clone(),
        server: server.clone(),
        pool: pool.clone(),
        peer: peer.clone(),
        max_sources: max_sources.map(|most| fit(&field("maxSources"), most)).transpose()?,
        device: device.clone(),
        port: fit(&field("port"), *port)?,
        iburst: *iburst,
        burst: *burst,
        interleaved: *interleaved,
        prefer: *prefer,
        trust: *trust,
        require: *require,
        noselect: *noselect,
        min_poll: fit(&field("minPoll"), *min_poll)?,
        max_poll: fit(&field("maxPoll"), *max_poll)?,
        key: key_ref.as_ref().map(file),
        nts: match nts {
            Some(api::Nts { ca, port }) => {
                Some(profile::Nts { ca: ca.as_ref().map(file), port: fit(&field("nts.port"), *port)? })
            }
            None => None,
        },
    })
}

/// The file on the nodes that a value of a Secret becomes.
fn file(secret: &api::SecretKey) -> String {
    let api::SecretKey { name, key } = secret;
    key_files::file_name(name, key)
}

fn entry(entry: &api::Restrict) -> profile::Restrict {
    let api::Restrict { source, flags } = entry;
    let mut flags: Vec<_> = flags.iter().copied().map(flag).collect();
    // The flags are a set in the API: their order must not change the profile.
    flags.sort_unstable();
    profile::Restrict { source: source.clone(), flags }
}

fn flag(flag: api::Flag) -> profile::Flag {
    match flag {
        api::Flag::Ignore => profile::Flag::Ignore,
        api::Flag::Kod => profile::Flag::Kod,
        api::Flag::Limited => profile::Flag::Limited,
        api::Flag::Lowpriotrap => profile::Flag::Lowpriotrap,
        api::Flag::Mssntp => profile::Flag::Mssntp,
        api::Flag::Noepeer => profile::Flag::Noepeer,
        api::Flag::Nomodify => profile::Flag::Nomodify,
        api::Flag::Nomrulist => profile::Flag::Nomrulist,
        api::Flag::Nopeer => profile::Flag::Nopeer,
        api::Flag::Noquery => profile::Flag::Noquery,
        api::Flag::Noserve => profile::Flag::Noserve,
        api::Flag::Notrap => profile::Flag::Notrap,
        api::Flag::Notrust => profile::Flag::Notrust,
        api::Flag::Version => profile::Flag::Version,
        api::Flag::Ntpport => profile::Flag::Ntpport,
    }
}

fn stratum(stratum: &api::Stratum) -> Result<profile::Stratum, FieldError> {
    let api::Stratum { local, orphan, activate_after } = stratum;
    Ok(profile::Stratum {
        local: local.map(|local| fit("stratum.local", local)).transpose()?,
        orphan: *orphan,
        activate_after: activate_after
            .as_ref()
            .map(|after| span("stratum.activateAfter", after))
            .transpose()?,
    })
}

fn serve(serve: &api::Serve) -> Result<profile::Serve, FieldError> {
    let api::Serve { enabled, port, addresses, rate_limit, workers, keys, nts } = serve;
    // The keys are a set too, so their order means nothing.
    let keys: BTreeSet<_> = keys.iter().flatten().map(file).collect();
    Ok(profile::Serve {
        enabled: *enabled,
        port: fit("serve.port", *port)?,
        // The addresses are a set: sorted, so that their order does not change the profile.
        addresses: addresses.iter().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        rate_limit: match rate_limit {
            Some(api::RateLimit { interval, burst, leak, max_clients }) => profile::RateLimit {
                interval: fit("serve.rateLimit.interval", *interval)?,
                burst: fit("serve.rateLimit.burst", *burst)?,
                leak: fit("serve.rateLimit.leak", *leak)?,
                max_clients: max_clients.map(|most| fit("serve.rateLimit.maxClients", most)).transpose()?,
            },
            None => profile::RateLimit::default(),
        },
        workers: workers.map(|threads| fit("serve.workers", threads)).transpose()?,
        keys: keys.into_iter().collect(),
        nts: nts.as_ref().map(serve_nts).transpose()?,
    })
}

fn serve_nts(nts: &api::ServeNts) -> Result<profile::ServeNts, FieldError> {
    let api::ServeNts { tls_secret, port } = nts;
    Ok(profile::ServeNts {
        certificate: key_files::file_name(tls_secret, TLS_CERT_KEY),
        private_key: key_files::file_name(tls_secret, TLS_PRIVATE_KEY_KEY),
        cookie_keys: Some(key_files::COOKIE_KEYS.to_owned()),
        port: fit("serve.nts.port", *port)?,
    })
}

/// The keys of a Secret of type kubernetes.io/tls (k8s.io/api/core/v1, types.go).
const TLS_CERT_KEY: &str = "tls.crt";
const TLS_PRIVATE_KEY_KEY: &str = "tls.key";

fn clock(clock: &api::Clock) -> Result<profile::Clock, FieldError> {
    let api::Clock { step, max_slew_rate, max_change, max_distance, min_sources, on_external_step, leap } =
        clock;
    Ok(profile::Clock {
        step: match step {
            Some(api::Step { threshold, limit }) => profile::Step {
                threshold: span("clock.step.threshold", threshold)?,
                limit: fit("clock.step.limit", *limit)?,
            },
            None => profile::Step::default(),
        },
        max_slew_rate: fit("clock.maxSlewRate", *max_slew_rate)?,
        max_change: span("clock.maxChange", max_change)?,
        max_distance: span("clock.maxDistance", max_distance)?,
        min_sources: min_sources.map(|least| fit("clock.minSources", least)).transpose()?,
        on_external_step: match on_external_step {
            api::OnExternalStep::Restore => profile::OnExternalStep::Restore,
            api::OnExternalStep::Accept => profile::OnExternalStep::Accept,
            api::OnExternalStep::Report => profile::OnExternalStep::Report,
        },
        leap: leap.as_ref().map(leap_seconds).unwrap_or_default(),
    })
}

fn leap_seconds(leap: &api::Leap) -> profile::Leap {
    let api::Leap { mode, smear } = leap;
    profile::Leap {
        mode: match mode {
            api::LeapMode::Kernel => profile::LeapMode::Kernel,
            api::LeapMode::Step => profile::LeapMode::Step,
            api::LeapMode::Slew => profile::LeapMode::Slew,
            api::LeapMode::Ignore => profile::LeapMode::Ignore,
        },
        smear: match smear {
            api::Smear::None => profile::Smear::None,
            api::Smear::Upstream => profile::Smear::Upstream,
        },
    }
}

fn thresholds(thresholds: &api::Thresholds) -> Result<profile::Thresholds, FieldError> {
    let api::Thresholds { offset, error_bound, spread, hold } = thresholds;
    Ok(profile::Thresholds {
        offset: span("thresholds.offset", offset)?,
        error_bound: span("thresholds.errorBound", error_bound)?,
        spread: span("thresholds.spread", spread)?,
        hold: span("thresholds.hold", hold)?,
    })
}

fn span(field: &str, text: &str) -> Result<Span, FieldError> {
    text.parse().map_err(|error| FieldError::new(field, error))
}

/// The selector that a spec asks for. An absent one selects every node.
pub(crate) fn selector(spec: &api::TimeSyncPolicySpec) -> Result<Selector, FieldError> {
    spec.node_selector
        .as_ref()
        .map_or_else(|| Ok(Selector::default()), |given| label_selector("nodeSelector", given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(yaml: &str) -> Profile {
        profile(&serde_norway::from_str(yaml).unwrap()).unwrap()
    }

    #[test]
    fn an_empty_spec_is_the_default_profile() {
        assert_eq!(translated("{}"), Profile::default());
    }

    /// The CRD has the API's defaults, crate `profile` has the profile's: they must be the same.
    #[test]
    fn both_sets_of_defaults_agree() {
        let empty =
            "{stratum: {}, serve: {rateLimit: {}}, clock: {step: {}, leap: {}}, rtc: {}, thresholds: {}}";
        assert_eq!(translated(empty), Profile::default());
        let upstream = translated("{upstreams: [{name: a, server: b}]}").upstreams.remove(0);
        assert_eq!(upstream, toml::from_str("name = 'a'\nserver = 'b'").unwrap());
        let nts = translated("{serve: {nts: {tlsSecret: s}}}").serve.nts;
        let files = "certificate = 's_tls.crt'\nprivateKey = 's_tls.key'\ncookieKeys = 'nts-cookie-keys'";
        assert_eq!(nts, Some(toml::from_str(files).unwrap()));
    }

    #[test]
    fn every_field_arrives() {
        let profile = translated(
            "{mode: Observe, upstreams: [{name: a, server: h, port: 1, iburst: true, burst: true, interleaved: true, prefer: true, trust: true,
              require: true, minPoll: 0, maxPoll: 1, keyRef: {name: n, key: k}}, {name: p, pool: many, maxSources: 3, nts: {}},
              {name: c, server: s, nts: {port: 4461, ca: {name: n.m, key: ca_1}}}, {name: d, device: /dev/ptp0, noselect: true},
              {name: q, peer: other}],
              restrict: [{source: default, flags: [limited, kod]}, {source: source, flags: [noquery, nopeer, nomrulist, nomodify, noepeer,
                          mssntp, lowpriotrap]}], stratum: {local: 10, orphan: true, activateAfter: 1m},
              serve: {enabled: false, port: 1123, addresses: ['192.0.2.1', '2001:db8::1'], rateLimit: {interval: -2, burst: 20, leak: 1, maxClients: 2048}, workers: 4,
                      keys: [{name: n, key: a}, {name: n, key: b}], nts: {tlsSecret: tls, port: 4462}},
              clock: {step: {threshold: 1s, limit: 0}, maxSlewRate: 5000, maxChange: 1h, maxDistance: 16s, minSources: 2, onExternalStep: Report,
                      leap: {mode: Step, smear: Upstream}}, rtc: {mode: Verified}, timezone: Asia/Shanghai,
              thresholds: {offset: 1ms, errorBound: 2ms, spread: 3ms, hold: 4s}}",
        );
        let text = toml::to_string(&profile).unwrap();
        for part in [
            "mode = \"Observe\"",
            "port = 1\n",
            "prefer = true",
            "burst = true\ninterleaved = true\nprefer",
            "trust = true",
            "require = true",
            "noselect = true",
            "maxPoll = 1",
            "key = \"n_k\"",
            "pool = \"many\"",
            "maxSources = 3",
            "[upstreams.nts]\nport = 4460",
            "ca = \"n.m_ca_1\"",
            "port = 4461",
            "device = \"/dev/ptp0\"",
            "minSources = 2",
            "mode = \"Step\"",
            "smear = \"Upstream\"",
            "[\"kod\", \"limited\"]",
            "peer = \"other\"",
            "source = \"source\"\nflags = [\"lowpriotrap\", \"mssntp\", \"noepeer\", \"nomodify\", \"nomrulist\", \"nopeer\", \"noquery\"]",
            "local = 10",
            "orphan = true",
            "activateAfter = \"60s\"",
            "maxClients = 2048",
            "workers = 4",
            "keys = [\"n_a\", \"n_b\"]",
            "certificate = \"tls_tls.crt\"",
            "privateKey = \"tls_tls.key\"",
            "cookieKeys = \"nts-cookie-keys\"",
            "port = 4462",
            "enabled = false",
            "port = 1123",
            "addresses = [\"192.0.2.1\", \"2001:db8::1\"]",
            "interval = -2",
            "burst = 20",
            "leak = 1",
            "threshold = \"1s\"",
            "limit = 0",
            "maxSlewRate = 5000",
            "maxChange = \"3600s\"",
            "maxDistance = \"16s\"",
            "onExternalStep = \"Report\"",
            "timezone = \"Asia/Shanghai\"",
            "mode = \"Verified\"",
            "offset = \"1ms\"",
            "errorBound = \"2ms\"",
            "spread = \"3ms\"",
            "hold = \"4s\"",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_older_rules_let_through_is_refused_by_name() {
        let spec = serde_norway::from_str("{serve: {rateLimit: {burst: 256}}}").unwrap();
        assert_eq!(
            profile(&spec).unwrap_err().to_string(),
            "spec.serve.rateLimit.burst: 256 is out of range"
        );
        let spec = serde_norway::from_str("{clock: {maxChange: soon}}").unwrap();
        assert!(profile(&spec).unwrap_err().to_string().starts_with("spec.clock.maxChange: \"soon\" is not"));
    }
    /// An object that the API server refuses today may have been stored by an earlier version.
    #[test]
    fn labels_that_cannot_be_are_refused_in_selectors() {
        let key = |key: &str| {
            let spec =
                format!("{{nodeSelector: {{matchExpressions: [{{key: '{key}', operator: Exists}}]}}}}");
            selector(&serde_norway::from_str(&spec).unwrap()).map_err(|error| error.to_string())
        };
        let (long, longest) = ("a".repeat(64), "a".repeat(63));
        let prefix = |length: usize| format!("{}/b", "a".repeat(length));
        for good in ["a", "A.b_c-9", "example.com/tier", "9/A", "a-b.c/d", longest.as_str(), &prefix(253)] {
            assert!(key(good).is_ok(), "{good}");
        }
        let bad = [
            "", " ", "a b", "-a", "a.", "a/", "/a", "a/b/c", "A.com/b", "a..b/c", "-a/b", "a_b/c", "ä", "a:b",
        ];
        for bad in bad.into_iter().chain([long.as_str(), &prefix(254)]) {
            let expected = format!(
                "spec.nodeSelector.matchExpressions[0].key: {bad:?} cannot be the key of a label, as in tier or example.com/tier"
            );
            assert_eq!(key(bad).unwrap_err(), expected);
        }
        for (spec, expected) in [
            ("{matchLabels: {a b: c}}", "spec.nodeSelector.matchLabels: \"a b\" cannot be the key"),
            ("{matchLabels: {a: b c}}", "spec.nodeSelector.matchLabels: \"b c\" cannot be the value"),
            (
                "{matchExpressions: [{key: a, operator: Exists}, {key: a, operator: NotIn, values: [b, -c]}]}",
                "spec.nodeSelector.matchExpressions[1].values: \"-c\" cannot be the value",
            ),
        ] {
            let spec = serde_norway::from_str(&format!("{{nodeSelector: {spec}}}")).unwrap();
            let error = selector(&spec).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let empty = "{nodeSelector: {matchLabels: {a: ''}, matchExpressions: [{key: b, operator: In, values: ['']}]}}";
        assert!(selector(&serde_norway::from_str(empty).unwrap()).is_ok());
    }
}
