//! How long this replica leads for certain: every write to the cluster asks before it begins, and has a time limit that
//! ends earlier. Time is CLOCK_BOOTTIME, which goes on while a machine is suspended.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::timeout;

/// A time on CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    /// Now.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // Both are never negative here, and the second is below a second.
        let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Self(Duration::new(secs, nanos))
    }
}

/// Until when this replica leads; shared by whoever writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Term {
    /// Nanoseconds on CLOCK_BOOTTIME; 0 before the first term.
    until: Arc<AtomicU64>,
}

/// Why a request did nothing, as far as is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Another replica may lead by now.
    #[error("this replica may not lead any more, so nothing was written")]
    NotLeading,
    /// Perhaps it was written.
    #[error("the API server takes too long")]
    Timeout,
    /// The API server's answer, or none.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl WriteError {
    /// The API server's status code, if it refused.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether RBAC refuses, as it does for every object of the kind, by `User "…" cannot patch resource "…"`: an admission
    /// policy refuses single objects, in other words.
    pub(crate) fn lacks_right(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else { return false };
        let user = status.message.split_once("User \"").map_or("", |(_, after)| after);
        status.code == 403
            && user.split_once("\" cannot ").is_some_and(|(_, after)| after.contains(" resource \""))
    }
}

/// No write takes longer, whatever is left of the term.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// With less left nothing is begun: a write would end too near to the end.
const SHORTEST_LEFT: Duration = Duration::from_millis(500);

impl Term {
    /// The Lease was renewed by a request that began at `asked`; others wait for `length` after they saw that.
    pub(crate) fn renew(&self, asked: BootTime, length: Duration) {
        let until = asked.0 + length;
        self.until.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// The Lease is another's, or given back.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::SeqCst)).saturating_sub(BootTime::now().0)
    }

    /// Does one write, if this replica leads for long enough.
    ///
    /// # Errors
    /// It does not, or the write failed or took too long.
    pub(crate) async fn write<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        let left = self.left();
        if left < SHORTEST_LEFT {
            return Err(WriteError::NotLeading);
        }
        limited(left.min(LONGEST_WRITE), call).await
    }
}

/// Does one request within a time limit.
///
/// # Errors
/// It failed or took too long.
pub(crate) async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    Ok(timeout(limit, call).await.map_err(|_| WriteError::Timeout)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_told_from_a_refused_object() {
        let lacks = |message: &str| {
            let status = kube::core::Status::failure(message, "Forbidden").with_code(403);
            WriteError::Api(kube::Error::Api(Box::new(status))).lacks_right()
        };
        assert!(lacks(
            r#"pods "a" is forbidden: User "system:serviceaccount:t:o" cannot patch resource "pods" in API group "" in the namespace "t""#
        ));
        assert!(!lacks(r#"admission webhook "x" denied the request: this pod cannot be changed"#));
        assert!(!lacks(r#"events "a" is forbidden: exceeded quota: events"#));
    }

    #[tokio::test]
    async fn nothing_is_written_outside_of_a_term() {
        let term = Term::default();
        let write = || term.write(async { Ok(()) });
        assert!(matches!(write().await, Err(WriteError::NotLeading)));
        term.renew(BootTime::now(), Duration::from_secs(10));
        assert!(write().await.is_ok());
        let slow = term.write(std::future::pending::<Result<(), kube::Error>>());
        term.renew(BootTime::now(), Duration::from_millis(600));
        assert!(matches!(slow.await, Err(WriteError::Timeout)), "ends before the term does");
        assert!(term.left() < Duration::from_millis(100));
        term.renew(BootTime::now(), Duration::from_secs(10));
        term.end();
        assert!(matches!(write().await, Err(WriteError::NotLeading)));
    }
}
