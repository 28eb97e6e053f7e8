//! What a user asks for by the annotation `timesync.dev/rollout` on a policy: `<verb>:<hash>`.
use std::fmt;

/// The annotation on a TimeSyncPolicy by which a user pauses, resumes or aborts a rollout.
pub const ROLLOUT_ANNOTATION: &str = "timesync.dev/rollout";

/// A request about the rollout of the profile with this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutRequest<'a> {
    /// What is asked for.
    pub verb: RolloutVerb,
    /// The hash in the profile's name, `<policy>.<hash>`.
    pub hash: &'a str,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutVerb {
    /// No further node gets the profile.
    Pause,
    /// A rollout that was paused or aborted goes on.
    Resume,
    /// The nodes get the last good profile again.
    Abort,
}

impl RolloutVerb {
    const ALL: [Self; 3] = [Self::Pause, Self::Resume, Self::Abort];

    /// The word in the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
        }
    }
}

impl<'a> RolloutRequest<'a> {
    /// Reads the annotation's value; none if it is no request. What follows a second colon is ignored: it makes a second
    /// request of the same kind differ from the first.
    pub fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.trim().split(':');
        let word = parts.next()?;
        let verb = RolloutVerb::ALL.into_iter().find(|verb| verb.as_str() == word)?;
        Some(Self { verb, hash: parts.next()? })
    }

    /// The annotation's value that asks for this now. A value acts once: if `acted`, the last one that has acted, is the
    /// usual one, this one has another part.
    pub fn anew(self, acted: Option<&str>) -> String {
        let usual = self.to_string();
        if acted == Some(usual.as_str()) { usual + ":2" } else { usual }
    }
}

impl fmt::Display for RolloutRequest<'_> {
    /// The annotation's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.verb.as_str(), self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_verb_and_a_hash() {
        let abort = Some(RolloutRequest { verb: RolloutVerb::Abort, hash: "1f3a9c2b" });
        let read = RolloutRequest::of;
        assert_eq!((read("abort:1f3a9c2b"), read(" abort:1f3a9c2b:2 ")), (abort, abort));
        for other in ["", "abort", "stop:1f3a9c2b", "1f3a9c2b"] {
            assert_eq!(read(other), None, "{other}");
        }
        let resume = RolloutRequest { verb: RolloutVerb::Resume, hash: "1f3a9c2b" };
        for acted in [None, Some("abort:1f3a9c2b"), Some("resume:1f3a9c2b:2")] {
            assert_eq!(resume.anew(acted), "resume:1f3a9c2b", "{acted:?}");
        }
        assert_eq!(resume.anew(Some("resume:1f3a9c2b")), "resume:1f3a9c2b:2");
        for text in ["pause:1f3a9c2b", "resume:1f3a9c2b", "abort:1f3a9c2b"] {
            assert_eq!(read(text).map(|request| request.to_string()).as_deref(), Some(text));
        }
    }
}
