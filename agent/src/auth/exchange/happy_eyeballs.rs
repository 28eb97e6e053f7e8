//! Chooses one of a name's addresses by "Happy Eyeballs" (RFC 8305): the next address is tried while the first has not
//! answered, and the first attempt that succeeds wins. Addresses and an attempt for one of them in; the result out.
use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::JoinSet,
    time,
};

/// Time between two attempts while no server has answered (RFC 8305 §5).
const DELAY: Duration = Duration::from_millis(250);

/// The largest number of addresses of one name that are tried.
const MOST_ADDRESSES: usize = 16;

/// A permit, which one attempt at a time may have.
#[derive(Clone, Default)]
pub(super) struct AttemptPermit(Arc<Mutex<()>>);

impl AttemptPermit {
    /// Waits until no other attempt has the permit. The attempt that has it has found a server that listens, so no
    /// further attempt begins.
    pub(super) async fn take(self) -> OwnedMutexGuard<()> {
        self.0.lock_owned().await
    }

    fn is_taken(&self) -> bool {
        self.0.try_lock().is_err()
    }
}

/// The result of the first attempt that succeeds. The others are dropped.
///
/// # Errors
/// If no attempt succeeds: the errors of all attempts, in the order in which they failed.
pub(super) async fn first<T, E, F>(
    addresses: &[IpAddr],
    attempt: impl Fn(IpAddr, AttemptPermit) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting = ntp::alternate_families(addresses).into_iter().take(MOST_ADDRESSES).peekable();
    let (permit, mut attempts, mut errors) = (AttemptPermit::default(), JoinSet::new(), Vec::new());
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(attempt(address, permit.clone()));
        }
        loop {
            let more = waiting.peek().is_some();
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(Ok(outcome))) => return Ok(outcome),
                    Some(Ok(Err(error))) => { errors.push(error); break }
                    // The attempt panicked, which is in the program's log.
                    Some(Err(_)) => break,
                    None if more => break,
                    None => return Err(errors),
                },
                () = time::sleep(DELAY), if more => if !permit.is_taken() { break },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        sync::{Arc, Mutex as Std},
    };

    use tokio::{runtime::Builder, time::Instant};

    use super::*;

    /// The result of an attempt, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Fate {
        Silent,
        Fails(u64),
        /// A server listens after the first time; the attempt fails or succeeds after the second one.
        Talks(u64, u64, bool),
    }

    /// The result, when each address was tried, and when the race ended, milliseconds.
    type Raced = (Result<IpAddr, Vec<IpAddr>>, Vec<(String, u128)>, u128);

    /// Time passes only while all attempts wait.
    fn race(fates: &[(&str, Fate)]) -> Raced {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let begin = runtime.block_on(async { Instant::now() });
        let begun = Arc::new(Std::new(Vec::new()));
        let elapsed = move || begin.elapsed().as_millis();
        let addresses: Vec<IpAddr> = fates.iter().map(|(address, _)| address.parse().unwrap()).collect();
        let attempt = |address: IpAddr, permit: AttemptPermit| {
            begun.lock().unwrap().push((address.to_string(), elapsed()));
            let fate = fates.iter().find(|(text, _)| text.parse() == Ok(address)).unwrap().1;
            let wait = |millis| time::sleep(Duration::from_millis(millis));
            async move {
                match fate {
                    Fate::Silent => future::pending().await,
                    Fate::Fails(after) => wait(after).await,
                    Fate::Talks(connect, talk, good) => {
                        wait(connect).await;
                        let _permit = permit.take().await;
                        wait(talk).await;
                        if good {
                            return Ok(address);
                        }
                    }
                }
                Err(address)
            }
        };
        let (outcome, over) = runtime.block_on(async { (first(&addresses, attempt).await, elapsed()) });
        let begun = begun.lock().unwrap().clone();
        (outcome, begun, over)
    }

    /// The addresses were tried in this order, at these times. A timer of tokio may come a millisecond late.
    fn assert_tried(tried: &[(String, u128)], expected: &[(&str, u128)]) {
        let same = |((address, at), (wanted, due)): (&(String, u128), &(&str, u128))| {
            address == wanted && (*due..due + 10).contains(at)
        };
        let all = tried.len() == expected.len() && tried.iter().zip(expected).all(same);
        assert!(all, "{tried:?} is not {expected:?}");
    }

    #[test]
    fn silent_addresses_cost_a_quarter_of_a_second_each_and_families_take_turns() {
        let fates = [
            ("2001:db8::1", Fate::Silent),
            ("2001:db8::2", Fate::Silent),
            ("192.0.2.1", Fate::Silent),
            ("192.0.2.2", Fate::Talks(10, 10, true)),
        ];
        let (outcome, tried, _) = race(&fates);
        assert_eq!(outcome, Ok("192.0.2.2".parse().unwrap()));
        let expected = [("2001:db8::1", 0), ("192.0.2.1", 250), ("2001:db8::2", 500), ("192.0.2.2", 750)];
        assert_tried(&tried, &expected);
    }

    #[test]
    fn a_failure_leads_to_the_next_at_once() {
        let fates = [("192.0.2.1", Fate::Fails(1)), ("192.0.2.2", Fate::Talks(1, 1, true))];
        let (outcome, tried, _) = race(&fates);
        assert!(outcome.is_ok());
        assert_tried(&tried, &[("192.0.2.1", 0), ("192.0.2.2", 1)]);
    }

    #[test]
    fn who_listens_has_the_time_of_one_address_and_no_other_is_bothered_meanwhile() {
        let fates = [("192.0.2.1", Fate::Talks(1, 500, true)), ("192.0.2.2", Fate::Talks(1, 1, true))];
        let (outcome, tried, _) = race(&fates);
        assert_eq!((outcome, tried.len()), (Ok("192.0.2.1".parse().unwrap()), 1));
        // If the attempt with the permit fails, the next one gets the permit.
        let fates = [("192.0.2.1", Fate::Talks(1, 500, false)), ("192.0.2.2", Fate::Talks(1, 1, true))];
        let (outcome, tried, _) = race(&fates);
        assert_eq!(outcome, Ok("192.0.2.2".parse().unwrap()));
        assert_tried(&tried, &[("192.0.2.1", 0), ("192.0.2.2", 501)]);
    }

    #[test]
    fn all_failures_are_told() {
        let fates = [("192.0.2.1", Fate::Fails(100)), ("192.0.2.2", Fate::Fails(10))];
        let (outcome, _, over) = race(&fates);
        assert_eq!(outcome, Err(["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap()).to_vec()));
        assert!((100..150).contains(&over), "{over}");
        assert_eq!(race(&[]).0, Err(Vec::new()));
    }
}
