//! Panics: a thread or task that panics, because of a bug, is reported and started again. Every panic is logged and
//! counted here, and the report and the metrics show the counts. The pause before a start grows, so that no part
//! restarts in a tight loop.
use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::{task::JoinSet, time};
use tracing::error;

/// A part of the agent that is started again after a panic. The engine is not one: if it panics, the agent ends and is
/// started again, since its state of the clock is not valid any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The thread that opens the server's port.
    ServerSupervisor,
    /// A thread that answers requests.
    ServerWorker,
    /// The task that keeps the port of key exchanges.
    KeyServer,
    /// A key exchange with one client.
    KeyExchange,
    /// The task that answers HTTP.
    Http,
    /// The thread that watches the hardware clock.
    Rtc,
    /// Profiles, report, time zone, static pod, and the time on disk.
    Housekeeping,
    /// The thread that looks for programs that steer the clock.
    Suspects,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::ServerSupervisor,
        Self::ServerWorker,
        Self::KeyServer,
        Self::KeyExchange,
        Self::Http,
        Self::Rtc,
        Self::Housekeeping,
        Self::Suspects,
    ];

    /// The name of the part, for logs and labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ServerSupervisor => "server-supervisor",
            Self::ServerWorker => "server-worker",
            Self::KeyServer => "key-server",
            Self::KeyExchange => "key-exchange",
            Self::Http => "http",
            Self::Rtc => "rtc",
            Self::Housekeeping => "housekeeping",
            Self::Suspects => "suspects",
        }
    }
}

/// The panics since the agent's start.
#[derive(Debug)]
pub(crate) struct Panics {
    totals: IntCounterVec,
    parts: Mutex<[PanicCount; Part::ALL.len()]>,
}

#[derive(Clone, Debug, Default)]
struct PanicCount {
    /// The number since the part last ran for [`HEALTHY_AFTER`].
    recent: u32,
    last: Option<Instant>,
    /// The last panic's message, until it is reported.
    take_unreported: Option<String>,
}

/// Pause after the first panic. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A part that ran for this long counts as healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(300);

impl Panics {
    /// Without panics so far.
    ///
    /// # Errors
    /// If the metric has an invalid name, which is a bug in this file.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let what = "Panics of a part of the agent, after which the part was started again";
        let totals = IntCounterVec::new(Opts::new("agent_panics_total", what), &["part"])?;
        for part in Part::ALL {
            totals.with_label_values(&[part.as_str()]);
        }
        Ok(Self { totals, parts: Mutex::default() })
    }

    /// Adds the counts to the registry.
    ///
    /// # Errors
    /// If another metric has the name, which is a bug.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.totals.clone()))
    }

    /// Runs `body` until it returns, and again after each panic. `pause` waits before the next start. It returns false
    /// if there is to be no further start.
    pub(crate) fn guard<T>(
        &self,
        part: Part,
        mut pause: impl FnMut(Duration) -> bool,
        mut body: impl FnMut() -> T,
    ) -> Option<T> {
        loop {
            match self.once(part, &mut body) {
                Ok(value) => return Some(value),
                Err(time) if !pause(time) => return None,
                Err(_) => {}
            }
        }
    }

    /// Runs `body` once.
    ///
    /// # Errors
    /// If it panicked: the pause before the next start.
    pub(crate) fn once<T>(&self, part: Part, body: impl FnOnce() -> T) -> Result<T, Duration> {
        caught(body).map_err(|panic_message| self.record(part, &panic_message))
    }

    /// The same as [`Panics::guard`], for a tokio task. `make` creates the task at each start.
    pub(crate) async fn guard_task<F>(self: Arc<Self>, part: Part, mut make: impl FnMut() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            // Ends its task when dropped.
            let mut task = JoinSet::new();
            task.spawn(make());
            match task.join_next().await {
                Some(Err(failed)) if failed.is_panic() => {
                    time::sleep(self.record(part, &panic_message(&*failed.into_panic()))).await;
                }
                _ => return,
            }
        }
    }

    /// Counts a panic of `part` if the thread panics while the witness exists. It is for a task whose end is not
    /// awaited.
    pub(crate) fn count_panics(self: &Arc<Self>, part: Part) -> PanicGuard {
        PanicGuard { panics: Arc::clone(self), part }
    }

    fn total(&self, part: Part) -> u64 {
        self.totals.with_label_values(&[part.as_str()]).get()
    }

    /// The panics since the last call, one sentence for each part.
    pub(crate) fn take_unreported(&self) -> Vec<String> {
        let mut parts = self.parts();
        let unreported = Part::ALL.into_iter().filter_map(|part| {
            let panic_message = parts[part as usize].take_unreported.take()?;
            let total = self.total(part);
            let times = if total == 1 { "once" } else { &format!("{total} times") };
            Some(format!(
                "The agent's part {} failed ({panic_message}) and was started again; this happened {times} since the agent's \
                 start. This is a fault of timesync: please report it with the agent's log",
                part.as_str()
            ))
        });
        unreported.collect()
    }

    /// Counts and logs a panic. Returns the pause before the next start.
    fn record(&self, part: Part, panic_message: &str) -> Duration {
        self.totals.with_label_values(&[part.as_str()]).inc();
        let pause = {
            let counted = &mut self.parts()[part as usize];
            let calm = counted.last.is_none_or(|last| last.elapsed() >= HEALTHY_AFTER);
            counted.recent = if calm { 0 } else { counted.recent.saturating_add(1) };
            counted.last = Some(Instant::now());
            counted.take_unreported = Some(panic_message.to_owned());
            let factor = 1_u32.checked_shl(counted.recent).unwrap_or(u32::MAX);
            FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
        };
        error!(
            part = part.as_str(),
            panic_message,
            total = self.total(part),
            pause_ms = pause.as_millis(),
            "Part of the agent panicked"
        );
        pause
    }

    // The value is valid at every moment, and no code here panics while it holds the lock.
    fn parts(&self) -> MutexGuard<'_, [PanicCount; Part::ALL.len()]> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Panics::count_panics`].
#[derive(Debug)]
pub(crate) struct PanicGuard {
    panics: Arc<Panics>,
    part: Part,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.panics.record(self.part, "see the log");
        }
    }
}

/// From now on, logs every panic where it happens, with its place in the source.
pub(crate) fn log() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        error!(
            thread = thread.name().unwrap_or_default(),
            place,
            panic_message = %panic_message(info.payload()),
            "Panic"
        );
    }));
}

/// Runs `body`, for a thread that must always give an answer.
///
/// # Errors
/// If it panicked: the panic's message.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| panic_message(&*payload))
}

/// The message of a panic, cut to the report's limit.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_body_runs_again_after_ever_longer_pauses() {
        let panics = Panics::new().unwrap();
        let mut pauses = Vec::new();
        let mut starts = 0;
        let pause = |time| {
            pauses.push(time);
            true
        };
        let value = panics.guard(Part::Rtc, pause, || {
            starts += 1;
            assert!(starts > 12, "start {starts}");
            starts
        });
        assert_eq!(value, Some(13));
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(panics.total(Part::Rtc), 12);
        let unreported = panics.take_unreported();
        assert!(
            unreported.len() == 1
                && unreported[0].contains("rtc failed (start 12)")
                && unreported[0].contains("12 times"),
            "{unreported:?}"
        );
        assert!(panics.take_unreported().is_empty(), "it is told once");
    }

    #[test]
    fn a_body_that_is_to_end_is_not_started_again() {
        let panics = Panics::new().unwrap();
        assert_eq!(panics.guard(Part::Rtc, |_| false, || panic!("once")), None::<()>);
        assert_eq!(panics.once(Part::Housekeeping, || 3), Ok(3));
        assert_eq!(caught(|| -> () { panic!("number {}", 7) }), Err("number 7".to_owned()));
        let failed: Result<(), _> = panics.once(Part::Housekeeping, || panic!("{}", "x".repeat(1000)));
        assert_eq!(failed, Err(FIRST_PAUSE));
        assert!(panics.take_unreported().iter().all(|unreported| unreported.len() < 500));
    }

    #[test]
    fn a_task_runs_again_and_one_that_nobody_waits_for_is_counted() {
        let panics = Arc::new(Panics::new().unwrap());
        let starts = Arc::new(AtomicU32::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let make = || {
            let starts = Arc::clone(&starts);
            async move { assert!(starts.fetch_add(1, Ordering::Relaxed) > 1, "too early") }
        };
        runtime.block_on(Arc::clone(&panics).guard_task(Part::KeyServer, make));
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        let panic_guard = panics.count_panics(Part::KeyExchange);
        let task = async move {
            let _witness = panic_guard;
            panic!("here");
        };
        runtime.block_on(async { tokio::spawn(task).await.unwrap_err() });
        drop(panics.count_panics(Part::Http));
        let totals = [Part::KeyServer, Part::KeyExchange, Part::Http].map(|part| panics.total(part));
        assert_eq!(totals, [2, 1, 0]);
    }
}
