//! What a user asks for by the annotation `timesync.dev/rollout` on a policy: `<verb>:<hash>`.

/// A request about the rollout of the profile with this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) verb: Verb,
    pub(super) hash: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Pause,
    Resume,
    Abort,
}

impl<'a> Request<'a> {
    /// Reads the annotation's value. What follows a second colon is ignored: it makes a second request of the same kind
    /// differ from the first.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.trim().split(':');
        let verb = match parts.next()? {
            "pause" => Verb::Pause,
            "resume" => Verb::Resume,
            "abort" => Verb::Abort,
            _ => return None,
        };
        Some(Self { verb, hash: parts.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_verb_and_a_hash() {
        let abort = Some(Request { verb: Verb::Abort, hash: "1f3a9c2b" });
        assert_eq!((Request::of("abort:1f3a9c2b"), Request::of(" abort:1f3a9c2b:2 ")), (abort, abort));
        for other in ["", "abort", "stop:1f3a9c2b", "1f3a9c2b"] {
            assert_eq!(Request::of(other), None, "{other}");
        }
    }
}
