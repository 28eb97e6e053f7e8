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
pub(crate) struct Content(pub(crate) ByteString);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(..)")
    }
}

/// The data of a Secret.
pub(crate) type Data = BTreeMap<String, Content>;

/// What the operator knows of Secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    /// Data of the Secrets that policies name; none if a Secret does not exist, or is not taken. A Secret without an
    /// entry was not read yet.
    pub(crate) named: BTreeMap<String, Option<Data>>,
    /// Secrets that exist, but whose data is not taken, and why.
    pub(crate) untaken: BTreeMap<String, Untaken>,
    /// The data of `timesync-keys`.
    pub(crate) held: Data,
    /// The version of `timesync-keys`.
    pub(crate) held_version: Option<String>,
    /// Desired content of the file with the cookie keys; none if no keys were made.
    pub(crate) cookie_keys: Option<Content>,
}

/// Why no data of a Secret is taken; each is a sentence for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// The Secret does not have the label by which its owner allows nodes to have it. Nodes keep what they have.
    Unlabelled(String),
    /// The Secret holds data that no node may have.
    Forbidden(String),
}

/// Whether the Secrets hold everything that a profile needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Supply {
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
    pub(crate) fn content(&self, file: &str) -> Option<&Content> {
        if file == COOKIE_KEYS {
            return self.cookie_keys.as_ref().or_else(|| self.held.get(file));
        }
        match self.named_content(file) {
            Ok(content) => Some(content),
            Err(Lack::Forbidden(_)) => None,
            Err(Lack::Missing(_) | Lack::Unread(_)) => self.held.get(file),
        }
    }

    /// Checks whether each file of the profile has a content.
    pub(crate) fn supply(&self, profile: &Profile) -> Supply {
        let mut found = Supply::Complete;
        // The operator makes the cookie keys itself, so they are never missing.
        for file in files(profile).into_iter().filter(|file| file != COOKIE_KEYS) {
            let here = match self.named_content(&file) {
                Ok(_) => Supply::Complete,
                Err(Lack::Missing(why)) if self.held.contains_key(&file) => Supply::Kept(why),
                Err(Lack::Missing(why) | Lack::Forbidden(why)) => return Supply::Missing(why),
                Err(Lack::Unread(_)) if self.held.contains_key(&file) => Supply::Complete,
                Err(Lack::Unread(why)) => Supply::Unread(why),
            };
            // What holds the policy back takes precedence over what does not.
            if found == Supply::Complete || matches!(here, Supply::Unread(_)) {
                found = here;
            }
        }
        found
    }

    fn named_content(&self, file: &str) -> Result<&Content, Lack> {
        let missing = |why: String| Err(Lack::Missing(why));
        let Some((secret, key)) = secret_and_key(file) else {
            return missing(format!("{file} is no key of a Secret"));
        };
        match self.untaken.get(secret) {
            Some(Untaken::Forbidden(why)) => return Err(Lack::Forbidden(why.clone())),
            Some(Untaken::Unlabelled(why)) => return missing(why.clone()),
            None => {}
        }
        match self.named.get(secret) {
            None => Err(Lack::Unread(format!("Secret {secret} was not read yet"))),
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

enum Lack {
    Missing(String),
    /// Nodes may not have the content, and do not keep it if they have it.
    Forbidden(String),
    Unread(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> Data {
        let content = |text: &str| Content(ByteString(text.as_bytes().to_vec()));
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
        let supply = |t| Secrets { named: named(t), ..Secrets::default() }.supply(&profile);
        assert_eq!(
            supply(&[("c", "3"), ("k", "4")]),
            Supply::Complete,
            "keys for cookies are the operator's own"
        );
        assert_eq!(supply(&[("c", "3")]), Supply::Missing("Secret t has no key k".to_owned()));
        let made = Content(ByteString(b"made".to_vec()));
        let mut secrets = Secrets { held: data(&[(COOKIE_KEYS, "held")]), ..Secrets::default() };
        assert_eq!(secrets.content(COOKIE_KEYS).unwrap().0.0, b"held");
        secrets.cookie_keys = Some(made.clone());
        assert_eq!(secrets.content(COOKIE_KEYS), Some(&made));
    }

    #[test]
    fn what_is_missing_is_named() {
        // A Secret is written as `name` if it does not exist, and as `name key` otherwise.
        let check = |named: &[&str], held: &[&str], expected: Supply| {
            let secret = |text: &&str| match text.split_once(' ') {
                Some((name, key)) => (name.to_owned(), Some(data(&[(key, "v")]))),
                None => ((*text).to_owned(), None),
            };
            let held: Vec<_> = held.iter().map(|file| (*file, "v")).collect();
            let named = named.iter().map(secret).collect();
            let secrets = Secrets { named, held: data(&held), ..Secrets::default() };
            assert_eq!(secrets.supply(&profile(&["key = 's_k'", "key = 't_k'"])), expected, "{secrets:?}");
        };
        check(&["s k", "t k"], &[], Supply::Complete);
        check(&["s k", "t"], &[], Supply::Missing("there is no Secret t".to_owned()));
        check(&["s", "t k"], &["s_k"], Supply::Kept("there is no Secret s".to_owned()));
        check(&["s k", "t other"], &[], Supply::Missing("Secret t has no key k".to_owned()));
        check(&["s k"], &[], Supply::Unread("Secret t was not read yet".to_owned()));
        check(&["s"], &["s_k"], Supply::Unread("Secret t was not read yet".to_owned()));
        check(&["s", "t"], &["s_k"], Supply::Missing("there is no Secret t".to_owned()));
        check(&[], &["s_k", "t_k"], Supply::Complete);
    }

    #[test]
    fn what_is_not_for_nodes_is_told_and_not_taken() {
        let check = |untaken: Untaken, held: &[(&str, &str)], expected: Supply, kept: bool| {
            let named = BTreeMap::from([("s".to_owned(), None)]);
            let untaken = BTreeMap::from([("s".to_owned(), untaken)]);
            let secrets = Secrets { named, untaken, held: data(held), ..Secrets::default() };
            assert_eq!(secrets.supply(&profile(&["key = 's_k'"])), expected);
            assert_eq!(secrets.content("s_k").is_some(), kept, "{expected:?}");
        };
        let unlabelled = || Untaken::Unlabelled("no label".to_owned());
        let forbidden = || Untaken::Forbidden("a token".to_owned());
        check(unlabelled(), &[], Supply::Missing("no label".to_owned()), false);
        check(unlabelled(), &[("s_k", "old")], Supply::Kept("no label".to_owned()), true);
        check(forbidden(), &[], Supply::Missing("a token".to_owned()), false);
        check(forbidden(), &[("s_k", "old")], Supply::Missing("a token".to_owned()), false);
    }

    #[test]
    fn what_would_fill_the_secret_is_not_taken() {
        let named = BTreeMap::from([("s".to_owned(), Some(data(&[("k", &"x".repeat(LARGEST + 1))])))]);
        let secrets = Secrets { named, ..Secrets::default() };
        let why = "what Secret s has under k is larger than 256 KiB";
        assert_eq!(secrets.supply(&profile(&["key = 's_k'"])), Supply::Missing(why.to_owned()));
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
