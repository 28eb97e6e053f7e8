//! The name of a profile, `<policy>.<hash>`, and the value of the annotation on an agent's pod.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `<policy>.<hash>`: the policy's name and the hash of the profile's text, so that a name stands for one text only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName {
    policy: String,
    hash: String,
}

impl ProfileName {
    /// The name of `text` as a profile of `policy`.
    pub fn of(policy: &str, text: &str) -> Self {
        Self { policy: policy.to_owned(), hash: text_hash(text) }
    }

    /// The policy's name.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The hash, eight hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The ConfigMap key, and so the file name, that holds the text.
    pub fn key(&self) -> String {
        format!("{self}.toml")
    }

    /// The name in a ConfigMap's key; none if the key is not a profile's.
    pub fn from_key(key: &str) -> Option<Self> {
        key.strip_suffix(".toml")?.parse().ok()
    }

    /// Returns true if the hash of `text` is the one in this name.
    pub fn names(&self, text: &str) -> bool {
        self.hash == text_hash(text)
    }
}

/// The hash of a text: FNV-1a, 32 bits, as eight hexadecimal digits, which Kubernetes itself puts into names (pod
/// templates). It tells texts apart. It does not protect against a user who may write the ConfigMap.
pub fn text_hash(text: &str) -> String {
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// Why a text is not a [`ProfileName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the name of a profile: <policy>.<eight hexadecimal digits>", self.0)
    }
}

impl std::error::Error for NameError {}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.policy, self.hash)
    }
}

impl FromStr for ProfileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError(text.to_owned());
        let (policy, hash) = text.rsplit_once('.').ok_or_else(wrong)?;
        let hash_fits =
            hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        // The policy's name becomes part of a file's name, so it may only have characters that Kubernetes allows in an
        // object's name.
        let policy_fits = !policy.is_empty()
            && policy.len() <= 253
            && policy.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && policy.as_bytes()[0].is_ascii_alphanumeric();
        if hash_fits && policy_fits {
            Ok(Self { policy: policy.to_owned(), hash: hash.to_owned() })
        } else {
            Err(wrong())
        }
    }
}

impl Serialize for ProfileName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProfileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The value of the annotation `timesync.dev/profile` on the agent's pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assignment {
    /// Absent, empty or not readable: no profile is assigned yet. The agent keeps the last good profile.
    Unassigned,
    /// `none`: no policy selects this node. The agent stops steering the clock, and reports that.
    None,
    /// The agent is to run this profile.
    Profile(ProfileName),
}

impl Assignment {
    /// The annotation's key.
    pub const ANNOTATION: &'static str = "timesync.dev/profile";
    /// The annotation that the operator changes to make the kubelet refresh the pod's volumes.
    pub const NUDGE_ANNOTATION: &'static str = "timesync.dev/nudge";

    /// Reads the annotation's value. An unknown value counts as unassigned, so that it does not stop a running clock.
    pub fn from_annotation(value: &str) -> Self {
        match value.trim() {
            "" => Self::Unassigned,
            "none" => Self::None,
            name => name.parse().map_or(Self::Unassigned, Self::Profile),
        }
    }

    /// The assigned profile, if any.
    pub fn profile(&self) -> Option<&ProfileName> {
        match self {
            Self::Profile(name) => Some(name),
            Self::None | Self::Unassigned => None,
        }
    }
}

impl fmt::Display for Assignment {
    /// The annotation's value; empty if unassigned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unassigned => Ok(()),
            Self::None => f.write_str("none"),
            Self::Profile(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_1a() {
        // Test vectors of the FNV authors (draft-eastlake-fnv, appendix C).
        assert_eq!(text_hash(""), "811c9dc5");
        assert_eq!(text_hash("foobar"), "bf9cf968");
    }

    #[test]
    fn names_round_trip_and_verify() {
        let name = ProfileName::of("edge.eu", "mode = \"Observe\"\n");
        assert_eq!(name.to_string().parse::<ProfileName>().unwrap(), name);
        assert_eq!(ProfileName::from_key(&name.key()), Some(name.clone()));
        assert!(name.names("mode = \"Observe\"\n"));
        assert!(!name.names("mode = \"Discipline\"\n"));
    }

    #[test]
    fn strange_names_are_refused() {
        for text in [
            "",
            "none",
            "a.1234567",
            "a.1234567G",
            ".12345678",
            "../x.12345678",
            "A.12345678",
            "a/b.12345678",
        ] {
            assert!(text.parse::<ProfileName>().is_err(), "{text}");
        }
    }

    #[test]
    fn annotation_values() {
        assert_eq!(Assignment::from_annotation(""), Assignment::Unassigned);
        assert_eq!(Assignment::from_annotation("whatever"), Assignment::Unassigned);
        assert_eq!(Assignment::from_annotation("none\n"), Assignment::None);
        let name = ProfileName::of("default", "x");
        assert_eq!(Assignment::from_annotation(&name.to_string()), Assignment::Profile(name));
    }
}
