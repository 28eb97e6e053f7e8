//! Finds the upstreams that can be asked with the present keys. After a boot there may be no keys, since Secrets come
//! with the agent. The profile's conditions for its upstreams (proof, agreement) hold for the remaining ones too. Reads
//! no key; only checks that its file exists.
use std::path::Path;

use ntp::{Auth, Config, Source, Upstream};

/// What remains of a configuration.
#[derive(Debug)]
pub(super) struct UsableUpstreams {
    /// Why sources are missing in it, or why there is none: one line each.
    pub(super) left_out: Vec<String>,
    /// None if no source could be followed.
    pub(super) config: Option<Config>,
}

/// Removes the sources whose key, or whose own certificates, have no file in `keys`.
pub(super) fn with_keys_in(mut config: Config, keys: &Path) -> UsableUpstreams {
    // By the company that they have in the profile: the others must not be believed just because these are missing.
    let all = config.sources_in_force();
    let mut left_out = Vec::new();
    config.sources = all.clone();
    config.sources.retain(|source| match missing(source, keys) {
        Some(file) => {
            left_out.push(format!(
                "Upstream {} needs {file}, which is not there before the agent runs.",
                source.name
            ));
            false
        }
        None => true,
    });
    // What is not synchronised must not be served, and not be taken for the truth either.
    config.local = None;
    let few = votes(&config.sources) < config.min_sources.max(1);
    let lost = |holds: fn(&Source) -> bool| all.iter().any(holds) && !config.sources.iter().any(holds);
    let trouble = if left_out.is_empty() {
        // Then it is as the profile wants it.
        config.sources.is_empty().then_some("The profile has no upstreams.")
    } else if lost(|source| source.require) {
        Some("The others are not followed without one that is required.")
    } else if lost(|source| source.trust) {
        Some("The others are not followed without one that is trusted.")
    } else if few {
        Some("The others are fewer than have to agree.")
    } else {
        None
    };
    left_out.extend(trouble.map(str::to_owned));
    UsableUpstreams { left_out, config: trouble.is_none().then_some(config) }
}

/// A file that the source needs, and that does not exist.
fn missing<'a>(source: &'a Source, keys: &Path) -> Option<&'a str> {
    let file = match &source.auth {
        Auth::Key(file) => file,
        Auth::Nts { ca: Some(file), .. } => file,
        Auth::Nts { ca: None, .. } | Auth::None => return None,
    };
    (!keys.join(file).is_file()).then_some(file)
}

fn votes(sources: &[Source]) -> usize {
    let votes = |source: &Source| match source.upstream {
        Upstream::Pool { max_sources, .. } => max_sources,
        Upstream::Server { .. } | Upstream::Device { .. } => 1,
    };
    sources.iter().filter(|source| !source.noselect).map(votes).sum()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use profile::Profile;

    use super::*;
    use crate::{assemble, scratch::Scratch};

    /// The names of the remaining upstreams a, b, …, which have these lines each, and the messages.
    fn left(more: &str, upstreams: &[&str]) -> (Option<String>, String) {
        let folder = Scratch::new();
        fs::write(folder.path().join("there"), "1 SHA256 x").unwrap();
        let mut text = more.to_owned();
        for (name, lines) in ["a", "b", "c", "d"].iter().zip(upstreams) {
            text +=
                &format!("\n[[upstreams]]\nname = \"{name}\"\nserver = \"{name}.example.com\"\n{lines}\n");
        }
        let profile: Profile = toml::from_str(&text).unwrap();
        let config = assemble::engine_config(&profile::check(&profile).unwrap(), true);
        let UsableUpstreams { left_out, config } = with_keys_in(config, folder.path());
        (config.map(|config| config.sources.into_iter().map(|s| s.name).collect()), left_out.join(" "))
    }

    fn check(more: &str, upstreams: &[&str], expected: Option<&str>, said: &str) {
        let (left, text) = left(more, upstreams);
        assert_eq!(left.as_deref(), expected, "{upstreams:?}: {text}");
        assert!(if said.is_empty() { text.is_empty() } else { text.contains(said) }, "{upstreams:?}: {text}");
    }

    #[test]
    fn those_that_need_what_is_not_there_are_named() {
        const KEY: &str = "key = 'gone'";
        const CA: &str = "nts = { ca = 'gone' }";
        check("", &["", ""], Some("ab"), "");
        check("", &["key = 'there'", "key = 'there'"], Some("ab"), "");
        check("", &["nts = {}", "nts = {}"], Some("ab"), "");
        check("", &[KEY, "nts = {}"], Some("b"), "Upstream a needs gone");
        check("", &[CA, "key = 'there'"], Some("b"), "Upstream a needs gone");
        check("", &[KEY, CA], None, "Upstream b needs gone");
    }

    #[test]
    fn the_others_are_not_believed_just_because_some_are_missing() {
        check("", &["key = 'gone'", ""], None, "required");
        check("", &["key = 'gone'\ntrust = true", ""], None, "trusted");
        check("", &["key = 'gone'", "key = 'there'", ""], Some("bc"), "Upstream a needs");
        check("", &["key = 'gone'\nnoselect = true", ""], Some("b"), "Upstream a needs");
        check("[clock]\nminSources = 2", &["nts = { ca = 'gone' }", "nts = {}"], None, "fewer");
        // Two of four have to agree; one alone is not enough.
        check("", &["key = 'gone'", "key = 'gone'", "key = 'gone'", "nts = {}"], None, "fewer");
        let own_clock = "[stratum]\nlocal = 10";
        check(own_clock, &["noselect = true\nkey = 'gone'", "noselect = true"], None, "fewer");
    }

    #[test]
    fn nobody_is_nobody() {
        check("[stratum]\nlocal = 10", &[], None, "no upstreams");
    }
}
