//! A connection: what its client has done so far, and until when it may stay open. Does no I/O.
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time};

/// How far a connection's client is with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It has not completed any.
    New,
    /// All that it made are answered.
    Idle,
    /// One is being answered.
    Busy,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// When one of a stranger ends, whatever it does.
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

/// A stranger's request has its headers within this time: on the node's own network they come at once.
const HEADERS: Duration = Duration::from_secs(5);

/// A client that is trusted asks again within seconds; one whose machine is gone never says so.
const IDLE: Duration = Duration::from_secs(90);

impl Connection {
    /// One of a stranger, with its longest life; or of somebody who is trusted from the start.
    pub(crate) fn new(lifetime: Option<Duration>) -> Self {
        let now = time::Instant::now();
        let state = State { phase: Phase::New, since: now, trusted: lifetime.is_none(), ended: false };
        Self {
            end: lifetime.map(|lifetime| now + lifetime),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// A request is complete.
    pub(crate) fn begin(&self) {
        self.turn(Phase::Busy);
    }

    /// It is answered.
    pub(crate) fn answered(&self) {
        self.turn(Phase::Idle);
    }

    /// Its client has proven the token.
    pub(crate) fn trust(&self) {
        self.state().trusted = true;
        self.changed.notify_one();
    }

    /// It is to end now.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }

    /// How far it is, and since when.
    pub(crate) fn standing(&self) -> (Phase, time::Instant) {
        let state = self.state();
        (state.phase, state.since)
    }

    /// Returns when its time is over.
    pub(crate) async fn over(&self) {
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

    /// None while an answer is made for one who is trusted.
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

    fn turn(&self, phase: Phase) {
        let mut state = self.state();
        (state.phase, state.since) = (phase, time::Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    // Its fields are set one by one and each is sound, so the state of a thread that panicked is, too.
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
            connection.over().await;
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
        let long = time::timeout(Duration::from_secs(1000), proven.over()).await;
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
        tokio::join!(connection.over(), change);
        assert_eq!(begun.elapsed().as_secs(), 13);
    }
}
