//! The keys and certificates that agents need: the name of each file, the content that the Secrets hold for it, and the
//! desired content of Secret `timesync-keys`, which every agent mounts. Pure. No content is ever shown: not by `Debug`,
//! not in a message, not as a hash.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use contract::key_files::{COOKIE_KEYS, secret_and_key};
use k8s_openapi::ByteString;
use profile::{Nts, Profile, ServeNts};

/// The Secret that agents mount, in the operator's namespace.
pub(crate) const SECRET: &str = "timesync-keys";

/// The value of one key of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretValue(pub(crate) ByteString);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(..)")
    }
}

/// The data of a Secret.
pub(crate) type Data = BTreeMap<String, SecretValue>;

/// What the operator knows of Secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    /// Data of the Secrets that policies name; none if a Secret does not exist, or is not taken. A Secret without an
    /// entry was not read yet.
    pub(crate) named: BTreeMap<String, Option<Data>>,
    /// Secrets that exist but whose data is not used, each with the reason.
    pub(crate) rejected: BTreeMap<String, SecretRejection>,
    /// The data of `timesync-keys`.
    pub(crate) held: Data,
    /// The version of `timesync-keys`.
    pub(crate) held_version: Option<String>,
    /// Desired content of the file with the cookie keys; none if no keys were made.
    pub(crate) cookie_keys: Option<SecretValue>,
}

/// Why the data of a Secret is not used; the messages are sentences for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretRejection {
    /// The Secret does not have the label by which its owner allows nodes to have it. Nodes keep what they have.
    Unlabelled(String),
    /// The Secret holds data that no node may have.
    Forbidden(String),
}

/// Whether the Secrets hold everything that a profile needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyAvailability {
    /// It exists.
    #[default]
    Complete,
    /// A part was removed from the Secrets. Agents keep its last content.
    Kept(String),
    /// A part does not exist, and never did.
    Missing(String),
    /// A part was not read yet.
    Unread(String),
}

/// The files that a profile names.
pub(crate) fn files(profile: &Profile) -> BTreeSet<String> {
    let ca = |nts: &Option<Nts>| nts.as_ref().and_then(|nts| nts.ca.clone());
    let asked = profile.upstreams.iter().flat_map(|each| [each.key.clone(), ca(&each.nts)]);
    let certificates = profile.serve.nts.iter().flat_map(|nts| {
        let ServeNts { certificate, private_key, cookie_keys, port: _ } = nts;
        [Some(certificate.clone()), Some(private_key.clone()), cookie_keys.clone()]
    });
    asked.chain(certificates).flatten().chain(profile.serve.keys.iter().cloned()).collect()
}

/// The Secrets that a profile's files come from.
pub(crate) fn secrets(profile: &Profile) -> BTreeSet<String> {
    files(profile).iter().filter_map(|file| Some(secret_and_key(file)?.0.to_owned())).collect()
}

/// Largest content, octets. A bundle of all public certificates has 0.2 MB, and `timesync-keys` can hold 1 MiB.
const LARGEST: usize = 256 * 1024;

impl Secrets {
    /// The desired content of a file: that of its Secret; if the Secret has none, the content so far.
    pub(crate) fn content(&self, file: &str) -> Option<&SecretValue> {
        if file == COOKIE_KEYS {
            return self.cookie_keys.as_ref().or_else(|| self.held.get(file));
        }
        match self.named_content(file) {
            Ok(content) => Some(content),
            Err(KeyError::Forbidden(_)) => None,
            Err(KeyError::Missing(_) | KeyError::Unread(_)) => self.held.get(file),
        }
    }

    /// Checks whether each file of the profile has a content.
    pub(crate) fn key_availability(&self, profile: &Profile) -> KeyAvailability {
        let mut found = KeyAvailability::Complete;
        // The operator makes the cookie keys itself, so they are never missing.
        for file in files(profile).into_iter().filter(|file| file != COOKIE_KEYS) {
            let here = match self.named_content(&file) {
                Ok(_) => KeyAvailability::Complete,
                Err(KeyError::Missing(why)) if self.held.contains_key(&file) => KeyAvailability::Kept(why),
                Err(KeyError::Missing(why) | KeyError::Forbidden(why)) => {
                    return KeyAvailability::Missing(why);
                }
                Err(KeyError::Unread(_)) if self.held.contains_key(&file) => KeyAvailability::Complete,
                Err(KeyError::Unread(why)) => KeyAvailability::Unread(why),
            };
            // A fault that stops the rollout takes precedence over one that does not.
            if found == KeyAvailability::Complete || matches!(here, KeyAvailability::Unread(_)) {
                found = here;
            }
        }
        found
    }

    fn named_content(&self, file: &str) -> Result<&SecretValue, KeyError> {
        let missing = |why: String| Err(KeyError::Missing(why));
        let Some((secret, key)) = secret_and_key(file) else {
            return missing(format!("{file} is no key of a Secret"));
        };
        match self.rejected.get(secret) {
            Some(SecretRejection::Forbidden(why)) => return Err(KeyError::Forbidden(why.clone())),
            Some(SecretRejection::Unlabelled(why)) => return missing(why.clone()),
            None => {}
        }
        match self.named.get(secret) {
            None => Err(KeyError::Unread(format!("Secret {secret} was not read yet"))),
            Some(None) => missing(format!("there is no Secret {secret}")),
            Some(Some(data)) => match data.get(key) {
                None => missing(format!("Secret {secret} has no key {key}")),
                Some(content) if content.0.0.len() > LARGEST => {
                    missing(format!("what Secret {secret} has under {key} is larger than 256 KiB"))
                }
                Some(content) => Ok(content),
            },
        }
    }
}

enum KeyError {
    Missing(String),
    /// Nodes may not have the content, and do not keep it if they have it.
    Forbidden(String),
    Unread(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> Data {
        let content = |text: &str| SecretValue(ByteString(text.as_bytes().to_vec()));
        entries.iter().map(|(key, text)| ((*key).to_owned(), content(text))).collect()
    }

    fn profile(upstreams: &[&str]) -> Profile {
        let listed: String =
            upstreams.iter().map(|each| format!("[[upstreams]]\nname = 'a'\n{each}\n")).collect();
        toml::from_str(&listed).unwrap()
    }

    #[test]
    fn files_and_their_secrets() {
        let profile = profile(&["key = 'a.b_c'", "nts = {}", "nts = { ca = 'a.b_c_d' }", "key = 'z_c'"]);
        assert_eq!(
            files(&profile).iter().map(String::as_str).collect::<Vec<_>>(),
            ["a.b_c", "a.b_c_d", "z_c"]
        );
        assert_eq!(secrets(&profile).iter().map(String::as_str).collect::<Vec<_>>(), ["a.b", "z"]);
    }

    #[test]
    fn what_a_server_needs() {
        let text = "[serve]\nkeys = ['s_a', 's_b']\nnts = { certificate = 't_c', privateKey = 't_k', cookieKeys = 'nts-cookie-keys' }";
        let profile: Profile = toml::from_str(text).unwrap();
        assert_eq!(
            files(&profile).iter().map(String::as_str).collect::<Vec<_>>(),
            ["nts-cookie-keys", "s_a", "s_b", "t_c", "t_k"]
        );
        assert_eq!(secrets(&profile).iter().map(String::as_str).collect::<Vec<_>>(), ["s", "t"]);
        let named = |t: &[(&str, &str)]| {
            BTreeMap::from([
                ("s".to_owned(), Some(data(&[("a", "1"), ("b", "2")]))),
                ("t".to_owned(), Some(data(t))),
            ])
        };
        let key_availability =
            |t| Secrets { named: named(t), ..Secrets::default() }.key_availability(&profile);
        assert_eq!(
            key_availability(&[("c", "3"), ("k", "4")]),
            KeyAvailability::Complete,
            "keys for cookies are the operator's own"
        );
        assert_eq!(
            key_availability(&[("c", "3")]),
            KeyAvailability::Missing("Secret t has no key k".to_owned())
        );
        let made = SecretValue(ByteString(b"made".to_vec()));
        let mut secrets = Secrets { held: data(&[(COOKIE_KEYS, "held")]), ..Secrets::default() };
        assert_eq!(secrets.content(COOKIE_KEYS).unwrap().0.0, b"held");
        secrets.cookie_keys = Some(made.clone());
        assert_eq!(secrets.content(COOKIE_KEYS), Some(&made));
    }

    #[test]
    fn what_is_missing_is_named() {
        // A Secret is written as `name` if it does not exist, and as `name key` otherwise.
        let check = |named: &[&str], held: &[&str], expected: KeyAvailability| {
            let secret = |text: &&str| match text.split_once(' ') {
                Some((name, key)) => (name.to_owned(), Some(data(&[(key, "v")]))),
                None => ((*text).to_owned(), None),
            };
            let held: Vec<_> = held.iter().map(|file| (*file, "v")).collect();
            let named = named.iter().map(secret).collect();
            let secrets = Secrets { named, held: data(&held), ..Secrets::default() };
            assert_eq!(
                secrets.key_availability(&profile(&["key = 's_k'", "key = 't_k'"])),
                expected,
                "{secrets:?}"
            );
        };
        check(&["s k", "t k"], &[], KeyAvailability::Complete);
        check(&["s k", "t"], &[], KeyAvailability::Missing("there is no Secret t".to_owned()));
        check(&["s", "t k"], &["s_k"], KeyAvailability::Kept("there is no Secret s".to_owned()));
        check(&["s k", "t other"], &[], KeyAvailability::Missing("Secret t has no key k".to_owned()));
        check(&["s k"], &[], KeyAvailability::Unread("Secret t was not read yet".to_owned()));
        check(&["s"], &["s_k"], KeyAvailability::Unread("Secret t was not read yet".to_owned()));
        check(&["s", "t"], &["s_k"], KeyAvailability::Missing("there is no Secret t".to_owned()));
        check(&[], &["s_k", "t_k"], KeyAvailability::Complete);
    }

    #[test]
    fn what_is_not_for_nodes_is_told_and_not_taken() {
        let check =
            |rejected: SecretRejection, held: &[(&str, &str)], expected: KeyAvailability, kept: bool| {
                let named = BTreeMap::from([("s".to_owned(), None)]);
                let rejected = BTreeMap::from([("s".to_owned(), rejected)]);
                let secrets = Secrets { named, rejected, held: data(held), ..Secrets::default() };
                assert_eq!(secrets.key_availability(&profile(&["key = 's_k'"])), expected);
                assert_eq!(secrets.content("s_k").is_some(), kept, "{expected:?}");
            };
        let unlabelled = || SecretRejection::Unlabelled("no label".to_owned());
        let forbidden = || SecretRejection::Forbidden("a token".to_owned());
        check(unlabelled(), &[], KeyAvailability::Missing("no label".to_owned()), false);
        check(unlabelled(), &[("s_k", "old")], KeyAvailability::Kept("no label".to_owned()), true);
        check(forbidden(), &[], KeyAvailability::Missing("a token".to_owned()), false);
        check(forbidden(), &[("s_k", "old")], KeyAvailability::Missing("a token".to_owned()), false);
    }

    #[test]
    fn what_would_fill_the_secret_is_not_taken() {
        let named = BTreeMap::from([("s".to_owned(), Some(data(&[("k", &"x".repeat(LARGEST + 1))])))]);
        let secrets = Secrets { named, ..Secrets::default() };
        let why = "what Secret s has under k is larger than 256 KiB";
        assert_eq!(
            secrets.key_availability(&profile(&["key = 's_k'"])),
            KeyAvailability::Missing(why.to_owned())
        );
    }

    #[test]
    fn the_newest_content_counts_and_is_not_shown() {
        let named = BTreeMap::from([("s".to_owned(), Some(data(&[("k", "new")])))]);
        let mut secrets = Secrets { named, held: data(&[("s_k", "old")]), ..Secrets::default() };
        assert_eq!(secrets.content("s_k").unwrap().0.0, b"new");
        secrets.named.insert("s".to_owned(), None);
        assert_eq!(secrets.content("s_k").unwrap().0.0, b"old");
        assert_eq!(secrets.content("s_other"), None);
        assert!(!format!("{secrets:?}").contains("111"), "the bytes of 'old'");
    }
}
