//! Resolves host names with the system's resolver. It blocks for up to 50 seconds if DNS does not answer, so each
//! lookup has a thread of its own beside the engine. If the engine runs alone, names are resolved in its thread. A name
//! and the asking source in; addresses, or why there are none, out.
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use ntp::SourceId;
use tokio::sync::oneshot;
use tracing::{debug, error};

use crate::panics;

/// The addresses, without duplicates and at least one, in the system's order; or why there are none.
pub(crate) type Outcome = Result<Vec<IpAddr>, Error>;

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The system's resolver returned this error.
    #[error("{0}")]
    System(String),
    /// The system has no thread left.
    #[error("no thread can be made for the lookup: {0}")]
    Thread(String),
    /// The thread panicked, with this message.
    #[error("the agent failed ({0}): please report it with the agent's log")]
    Fault(String),
}

/// The answer for a source.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The engine that asked. It may have been replaced in the meantime.
    pub(crate) epoch: u64,
    /// The source that has the name.
    pub(crate) source: SourceId,
    /// The result of the lookup.
    pub(crate) outcome: Outcome,
}

/// Resolves names in threads of its own. If a name is asked for while its lookup runs, there is no second lookup: all
/// waiters get the same answer. Clones share their state.
#[derive(Clone)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    /// The running lookups, and the waiters of each.
    lookups: Mutex<Lookups>,
    look_up: Box<dyn Fn(&str) -> Outcome + Send + Sync>,
    reply: Box<dyn Fn(Resolved) + Send + Sync>,
}

#[derive(Default)]
struct Lookups {
    /// Names that are being looked up, or wait for a thread, in the form in which DNS compares them.
    open: BTreeMap<String, Lookup>,
    /// Those names that have no thread yet, the oldest first.
    queue: VecDeque<String>,
    /// The number of lookups that run.
    threads: usize,
}

#[derive(Default)]
struct Lookup {
    waiters: Vec<Waiter>,
    /// True if the lookup has its thread. The system's resolver cannot be interrupted, so it goes on even if no waiter
    /// is left.
    begun: bool,
}

/// The receiver of an answer.
enum Waiter {
    Source(u64, SourceId),
    Task(oneshot::Sender<Outcome>),
}

/// The largest number of concurrent lookups. 16 upstreams have 16 names, and the threads of former profiles end after
/// 10 to 50 s if DNS does not answer. So there is room for ten changes of all names within a minute. A thread that
/// waits for DNS takes 20 KiB of memory (glibc), and 16 KiB in the kernel.
const THREADS: usize = 256;

/// Stack size of a lookup, octets; only the part that is used takes memory. musl keeps answers of 10 KiB on the stack,
/// glibc up to 64 KiB, and its plug-ins need room besides.
const STACK: usize = 256 * 1024;

impl Resolver {
    /// Sources get their answers through `reply`, which may be called in any thread.
    pub(crate) fn new(reply: impl Fn(Resolved) + Send + Sync + 'static) -> Self {
        Self::with(look_up, reply)
    }

    /// The same, with another function that resolves a name.
    fn with(
        look_up: impl Fn(&str) -> Outcome + Send + Sync + 'static,
        reply: impl Fn(Resolved) + Send + Sync + 'static,
    ) -> Self {
        let lookups = Mutex::default();
        Self { shared: Arc::new(Shared { lookups, look_up: Box::new(look_up), reply: Box::new(reply) }) }
    }

    /// Resolves `host` for a source of the engine `epoch`. There is an answer in every case, unless the source is
    /// dropped before.
    pub(crate) fn ask(&self, epoch: u64, source: SourceId, host: &str) {
        self.add(host, Waiter::Source(epoch, source));
    }

    /// Resolves `host` for a task. If the future is dropped before the lookup has begun, the lookup is dropped too.
    ///
    /// # Errors
    /// If the name has no addresses.
    pub(crate) async fn look_up(&self, host: &str) -> Outcome {
        let (sender, answer) = oneshot::channel();
        self.add(host, Waiter::Task(sender));
        answer.await.unwrap_or_else(|_| Err(Error::Fault("no answer".to_owned())))
    }

    /// Drops the requests of sources that are not present any more. A lookup that has begun ends by itself.
    pub(crate) fn retain(&self, present: impl Fn(u64, SourceId) -> bool) {
        self.shared.lookups().drop_stale(present);
    }

    fn add(&self, host: &str, waiter: Waiter) {
        let name = host.to_ascii_lowercase();
        let begun = self.shared.lookups().add(&name, waiter);
        if !begun {
            return;
        }
        let (shared, first) = (Arc::clone(&self.shared), name.clone());
        let thread = thread::Builder::new().name("resolve".to_owned()).stack_size(STACK);
        // Each lookup has a new thread, since a new thread uses the present /etc/resolv.conf with any C library.
        if let Err(error) = thread.spawn(move || shared.work(first)) {
            error!(%error, "No thread for a name lookup");
            let waiters = self.shared.lookups().end(&name);
            self.shared.notify(waiters, &Err(Error::Thread(error.to_string())));
        }
    }
}

impl Shared {
    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        // The lookups are valid at every moment while they are locked, so a panic leaves them valid.
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's work: this name, then names that have waited for a thread.
    fn work(&self, first: String) {
        let mut next = Some(first);
        while let Some(name) = next {
            let outcome = panics::caught(|| (self.look_up)(&name));
            let outcome = outcome.unwrap_or_else(|said| Err(Error::Fault(said)));
            let waiters = self.lookups().end(&name);
            self.notify(waiters, &outcome);
            next = self.lookups().begin_next();
        }
    }

    fn notify(&self, waiters: Vec<Waiter>, outcome: &Outcome) {
        for waiter in waiters {
            match waiter {
                Waiter::Source(epoch, source) => {
                    (self.reply)(Resolved { epoch, source, outcome: outcome.clone() })
                }
                // If the future was dropped, the answer is not needed any more.
                Waiter::Task(sender) => drop(sender.send(outcome.clone())),
            }
        }
    }
}

impl Lookups {
    /// Adds a waiter for `name`. Returns true if the name needs a thread now.
    fn add(&mut self, name: &str, waiter: Waiter) -> bool {
        let is_new = !self.open.contains_key(name);
        let lookup = self.open.entry(name.to_owned()).or_default();
        if let Waiter::Source(epoch, source) = waiter {
            lookup
                .waiters
                .retain(|other| !matches!(other, Waiter::Source(e, s) if (*e, *s) == (epoch, source)));
        }
        lookup.waiters.push(waiter);
        if !is_new {
            return false;
        }
        lookup.begun = self.threads < THREADS;
        if lookup.begun {
            self.threads += 1;
        } else {
            self.queue.push_back(name.to_owned());
        }
        lookup.begun
    }

    /// Ends the lookup of `name`, and returns its waiters.
    fn end(&mut self, name: &str) -> Vec<Waiter> {
        self.threads -= 1;
        self.open.remove(name).map(|lookup| lookup.waiters).unwrap_or_default()
    }

    /// The name that has waited longest for a thread, and still has a waiter.
    fn begin_next(&mut self) -> Option<String> {
        self.drop_stale(|_, _| true);
        let name = self.queue.pop_front()?;
        self.open.get_mut(&name)?.begun = true;
        self.threads += 1;
        Some(name)
    }

    fn drop_stale(&mut self, present: impl Fn(u64, SourceId) -> bool) {
        let wanted = |waiter: &Waiter| match waiter {
            Waiter::Source(epoch, source) => present(*epoch, *source),
            Waiter::Task(sender) => !sender.is_closed(),
        };
        let Self { open, queue, .. } = self;
        open.retain(|_, lookup| {
            lookup.waiters.retain(wanted);
            lookup.begun || !lookup.waiters.is_empty()
        });
        queue.retain(|name| open.contains_key(name));
    }
}

/// Resolves `host` with the system's resolver, in this thread.
///
/// # Errors
/// If it has no addresses.
pub(crate) fn look_up(host: &str) -> Outcome {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![address]);
    }
    let found =
        (host, 0).to_socket_addrs().inspect_err(|error| debug!(host, %error, "Name does not resolve"));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map_err(reason)?.map(|found| found.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(Error::System("it has no addresses".to_owned())) } else { Ok(addresses) }
}

/// The C library's text, which a reader may know.
fn reason(error: io::Error) -> Error {
    let words = error.to_string();
    Error::System(words.strip_prefix("failed to lookup address information: ").unwrap_or(&words).to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{
            Condvar,
            mpsc::{self, Receiver, RecvTimeoutError},
        },
        time::Duration,
    };

    use super::*;

    /// A DNS that does not answer for any name until it is released, except names that begin with "good".
    #[derive(Clone, Default)]
    struct Dns(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        asked: Vec<String>,
        open: usize,
        released: bool,
    }

    impl Dns {
        fn look_up(&self, host: &str) -> Outcome {
            let (state, changed) = &*self.0;
            let mut state = state.lock().unwrap();
            state.asked.push(host.to_owned());
            changed.notify_all();
            if host.starts_with("bad") {
                drop(state);
                panic!("this test's own");
            }
            if host.starts_with("good") {
                return Ok(vec![IpAddr::from([192, 0, 2, 1])]);
            }
            state.open += 1;
            while !state.released {
                state = changed.wait(state).unwrap();
            }
            state.open -= 1;
            Err(Error::System("silent".to_owned()))
        }

        fn asked(&self) -> Vec<String> {
            self.0.0.lock().unwrap().asked.clone()
        }

        /// Waits until `count` names have been asked for.
        fn wait_asked(&self, count: usize) {
            let (state, changed) = &*self.0;
            let state = state.lock().unwrap();
            let enough = |state: &mut State| state.asked.len() < count;
            let (state, waited) = changed.wait_timeout_while(state, PATIENCE, enough).unwrap();
            assert!(!waited.timed_out(), "{} of {count}", state.asked.len());
        }

        fn release(&self) {
            self.0.0.lock().unwrap().released = true;
            self.0.1.notify_all();
        }

        fn resolver(&self) -> (Resolver, Receiver<Resolved>) {
            let (dns, (sender, answers)) = (self.clone(), mpsc::channel());
            let resolver = Resolver::with(
                move |host| dns.look_up(host),
                // A test that has ended does not receive any more.
                move |answer| drop(sender.send(answer)),
            );
            (resolver, answers)
        }
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    fn ask(resolver: &Resolver, source: u32, host: &str) {
        resolver.ask(1, SourceId(source), host);
    }

    fn threads(resolver: &Resolver) -> usize {
        resolver.shared.lookups().threads
    }

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(look_up("192.0.2.1"), Ok(vec!["192.0.2.1".parse().unwrap()]));
        assert_eq!(look_up("2001:db8::1"), Ok(vec!["2001:db8::1".parse().unwrap()]));
        assert_eq!(look_up("[2001:db8::1]"), Ok(vec!["2001:db8::1".parse().unwrap()]));
    }

    #[test]
    fn the_systems_resolver_answers_from_a_thread() {
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::new(move |answer| sender.send(answer).unwrap());
        resolver.ask(7, SourceId(3), "localhost");
        let answer = answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!((answer.epoch, answer.source), (7, SourceId(3)));
        assert!(answer.outcome.unwrap().iter().all(IpAddr::is_loopback));
        resolver.ask(7, SourceId(3), "no.such.name.invalid");
        let answer = answers.recv_timeout(PATIENCE).unwrap();
        let Err(Error::System(why)) = answer.outcome else { panic!("it resolves") };
        assert!(!why.contains("failed to lookup"), "{why}");
    }

    #[test]
    fn dead_names_do_not_delay_a_good_one() {
        let dns = Dns::default();
        let (resolver, answers) = dns.resolver();
        for dead in 0..200 {
            ask(&resolver, dead, &format!("dead{dead}"));
        }
        dns.wait_asked(200);
        ask(&resolver, 1000, "good");
        let answer = answers.recv_timeout(PATIENCE).unwrap();
        assert!(answer.source == SourceId(1000) && answer.outcome.is_ok(), "{answer:?}");
        dns.release();
        for _ in 0..200 {
            assert!(answers.recv_timeout(PATIENCE).unwrap().outcome.is_err());
        }
    }

    #[test]
    fn an_open_name_is_not_asked_again() {
        let dns = Dns::default();
        let (resolver, answers) = dns.resolver();
        for _ in 0..10 {
            ask(&resolver, 1, "dead.example");
            ask(&resolver, 2, "Dead.EXAMPLE");
        }
        dns.wait_asked(1);
        ask(&resolver, 1, "dead.example");
        dns.release();
        let told: BTreeSet<_> = (0..2).map(|_| answers.recv_timeout(PATIENCE).unwrap().source).collect();
        assert_eq!(told, BTreeSet::from([SourceId(1), SourceId(2)]));
        assert_eq!(dns.asked(), ["dead.example"]);
        assert_eq!(answers.recv_timeout(Duration::from_millis(50)).unwrap_err(), RecvTimeoutError::Timeout);
        // After its answer a name may be asked for again.
        ask(&resolver, 1, "dead.example");
        dns.wait_asked(2);
    }

    #[test]
    fn names_of_sources_that_are_gone_are_dropped() {
        let dns = Dns::default();
        let (resolver, answers) = dns.resolver();
        let names = |from: u32, count: usize| (from..).take(count).map(|n| (n, format!("dead{n}")));
        names(0, THREADS).for_each(|(source, name)| ask(&resolver, source, &name));
        dns.wait_asked(THREADS);
        names(5000, 100).for_each(|(source, name)| ask(&resolver, source, &name));
        ask(&resolver, 9000, "good");
        resolver.retain(|epoch, source| epoch == 1 && source == SourceId(9000));
        dns.release();
        let answer = answers.recv_timeout(PATIENCE).unwrap();
        assert!(answer.source == SourceId(9000) && answer.outcome.is_ok(), "{answer:?}");
        assert_eq!(answers.recv_timeout(Duration::from_millis(50)).unwrap_err(), RecvTimeoutError::Timeout);
        assert_eq!(dns.asked().len(), THREADS + 1, "names that nobody wants were asked for");
    }

    #[test]
    fn threads_are_bounded_and_end() {
        let dns = Dns::default();
        let (resolver, answers) = dns.resolver();
        let all = THREADS as u32 + 50;
        (0..all).for_each(|n| ask(&resolver, n, &format!("dead{n}")));
        dns.wait_asked(THREADS);
        assert_eq!(threads(&resolver), THREADS);
        assert!(dns.0.0.lock().unwrap().open <= THREADS);
        dns.release();
        for _ in 0..all {
            answers.recv_timeout(PATIENCE).unwrap();
        }
        let begin = std::time::Instant::now();
        while threads(&resolver) > 0 {
            assert!(begin.elapsed() < PATIENCE, "{} threads are left", threads(&resolver));
            thread::sleep(Duration::from_millis(1));
        }
        assert!(resolver.shared.lookups().open.is_empty() && resolver.shared.lookups().queue.is_empty());
    }

    #[test]
    fn a_lookup_that_panics_is_told_and_stops_nothing() {
        let dns = Dns::default();
        let (resolver, answers) = dns.resolver();
        for _ in 0..3 {
            ask(&resolver, 1, "bad");
            assert_eq!(
                answers.recv_timeout(PATIENCE).unwrap().outcome,
                Err(Error::Fault("this test's own".to_owned()))
            );
        }
        ask(&resolver, 1, "good");
        assert!(answers.recv_timeout(PATIENCE).unwrap().outcome.is_ok());
    }

    #[test]
    fn a_task_waits_without_blocking_and_may_give_up() {
        let dns = Dns::default();
        let (resolver, _answers) = dns.resolver();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            assert!(resolver.look_up("good").await.is_ok());
            let given_up = tokio::time::timeout(Duration::from_millis(10), resolver.look_up("dead")).await;
            assert!(given_up.is_err());
            resolver.retain(|_, _| true);
            assert!(resolver.shared.lookups().open["dead"].waiters.is_empty());
        });
        dns.release();
    }
}
