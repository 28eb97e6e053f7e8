//! The state of a connection: what its client has done so far, and how long the connection may stay open. Does no I/O.
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time};

/// What the client of a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It has not completed a request.
    New,
    /// All its requests are answered.
    Idle,
    /// One of its requests is being answered.
    Busy,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// When the connection ends in any case, if its client is not trusted.
    end: Option<time::Instant>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: time::Instant,
    trusted: bool,
    ended: bool,
}

/// A client that is not trusted must send its headers within this time. On the node's own network they arrive at once.
const HEADERS: Duration = Duration::from_secs(5);

/// An idle connection ends after this time. A trusted client asks again within seconds; a client whose machine has gone
/// away does not close its connection.
const IDLE: Duration = Duration::from_secs(90);

impl Connection {
    /// A connection of an untrusted client, which lasts at most `lifetime`; without a `lifetime`, one of a client that
    /// is trusted from the start.
    pub(crate) fn new(lifetime: Option<Duration>) -> Self {
        let now = time::Instant::now();
        let state = State { phase: Phase::New, since: now, trusted: lifetime.is_none(), ended: false };
        Self {
            end: lifetime.map(|lifetime| now + lifetime),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// The client has completed a request.
    pub(crate) fn begin(&self) {
        self.set_phase(Phase::Busy);
    }

    /// The request is answered.
    pub(crate) fn answered(&self) {
        self.set_phase(Phase::Idle);
    }

    /// The client has proven that it knows the token.
    pub(crate) fn trust(&self) {
        self.state().trusted = true;
        self.changed.notify_one();
    }

    /// The connection must end now.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }

    /// The present phase, and when it began.
    pub(crate) fn phase(&self) -> (Phase, time::Instant) {
        let state = self.state();
        (state.phase, state.since)
    }

    /// Returns when the connection's deadline has passed.
    pub(crate) async fn expired(&self) {
        loop {
            let deadline = self.deadline();
            let changed = self.changed.notified();
            match deadline {
                Some(deadline) if deadline <= time::Instant::now() => return,
                Some(deadline) => {
                    let _ = time::timeout_at(deadline, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The present deadline; none while an answer to a trusted client is being made.
    fn deadline(&self) -> Option<time::Instant> {
        let State { phase, since, trusted, ended } = *self.state();
        let busy = phase == Phase::Busy;
        match (ended, trusted) {
            (true, _) => Some(since),
            (false, true) => (!busy).then(|| since + IDLE),
            (false, false) => {
                let headers = (!busy).then(|| since + HEADERS);
                headers.into_iter().chain(self.end).min()
            }
        }
    }

    fn set_phase(&self, phase: Phase) {
        let mut state = self.state();
        (state.phase, state.since) = (phase, time::Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    // The fields are set one by one and each is valid by itself, so the state is valid even after a thread panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Option<Duration> = Some(Duration::from_secs(30));

    #[tokio::test(start_paused = true)]
    async fn deadlines() {
        let check = async |connection: &Connection, secs: u64| {
            let begun = time::Instant::now();
            connection.expired().await;
            assert_eq!(begun.elapsed().as_secs(), secs);
        };
        check(&Connection::new(LIFETIME), 5).await;
        check(&Connection::new(None), 90).await;
        let busy = Connection::new(LIFETIME);
        busy.begin();
        check(&busy, 30).await;
        let answered = Connection::new(LIFETIME);
        answered.begin();
        time::sleep(Duration::from_secs(27)).await;
        answered.answered();
        check(&answered, 3).await;
        let proven = Connection::new(LIFETIME);
        proven.begin();
        proven.trust();
        let long = time::timeout(Duration::from_secs(1000), proven.expired()).await;
        assert!(long.is_err(), "a long poll of one who is trusted");
        proven.answered();
        check(&proven, 90).await;
        proven.begin();
        proven.end();
        check(&proven, 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_meanwhile_counts() {
        let connection = Connection::new(LIFETIME);
        let begun = time::Instant::now();
        let change = async {
            time::sleep(Duration::from_secs(4)).await;
            connection.begin();
            time::sleep(Duration::from_secs(4)).await;
            connection.answered();
        };
        tokio::join!(connection.expired(), change);
        assert_eq!(begun.elapsed().as_secs(), 13);
    }
}
