//! The term: for how long this replica leads for certain. Every write to the cluster checks it before it begins, and
//! has a time limit that ends before the term does. Time is CLOCK_BOOTTIME, which runs while the machine is suspended.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::timeout;

/// A time of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    /// The present time.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // Neither is ever negative here, and the nanoseconds are less than a second.
        let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Self(Duration::new(secs, nanos))
    }
}

/// The end of the term, shared by all parts that write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Term {
    /// Nanoseconds of CLOCK_BOOTTIME; 0 before the first term.
    until: Arc<AtomicU64>,
}

/// Why a request failed, or may have failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Another replica may lead by now, so the write was not begun.
    #[error("this replica may not lead any more, so nothing was written")]
    NotLeading,
    /// The time limit has passed. The write may have been done or not.
    #[error("the API server takes too long")]
    Timeout,
    /// The API server's refusal, or an error of the connection.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl WriteError {
    /// The API server's status code, if it sent one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Returns true if RBAC refuses, with a message `User "…" cannot patch resource "…"`: then it refuses every object
    /// of the kind. An admission policy refuses single objects, with another message.
    pub(crate) fn lacks_right(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else { return false };
        let user = status.message.split_once("User \"").map_or("", |(_, after)| after);
        status.code == 403
            && user.split_once("\" cannot ").is_some_and(|(_, after)| after.contains(" resource \""))
    }
}

/// Time limit of a write, however much of the term is left.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// If less than this is left, no write begins, since it could end too close to the end of the term.
const SHORTEST_LEFT: Duration = Duration::from_millis(500);

impl Term {
    /// Begins a new term after a renewal of the Lease. The renewing request began at `asked`; other replicas wait for
    /// longer than `length` after they saw it.
    pub(crate) fn renew(&self, asked: BootTime, length: Duration) {
        let until = asked.0 + length;
        self.until.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Ends the term: another replica has the Lease, or it was released.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// The rest of the term.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::SeqCst)).saturating_sub(BootTime::now().0)
    }

    /// Does one write, if enough of the term is left.
    ///
    /// # Errors
    /// If too little of the term is left, or if the write failed or took too long.
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
/// If the request failed or took too long.
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
        term.renew(BootTime::now(), Duration::from_secs(2));
        assert!(matches!(slow.await, Err(WriteError::Timeout)), "ends before the term does");
        assert!(term.left() < SHORTEST_LEFT);
        term.renew(BootTime::now(), Duration::from_secs(10));
        term.end();
        assert!(matches!(write().await, Err(WriteError::NotLeading)));
    }
}
