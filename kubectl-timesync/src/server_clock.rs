//! The API server's time, from the header Date of its answers. The program runs on a user's machine, whose clock may be
//! wrong, so how old an object is must not be judged by that clock.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use kube::Client;

/// The clock of the API server that a client asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerClock(Arc<Mutex<Option<Reading>>>);

/// One answer.
#[derive(Clone, Copy, Debug)]
struct Reading {
    server: Timestamp,
    at: Instant,
    /// This machine's clock minus the server's.
    ahead: SignedDuration,
}

/// A difference that is told. Date has whole seconds, and an answer is on its way for a while.
const DIFFERENCE: SignedDuration = SignedDuration::from_secs(5);

impl ServerClock {
    /// The client, and the clock that it reads with each answer.
    pub(crate) fn of(client: Client) -> (Client, Self) {
        let clock = Self::default();
        let (learner, namespace) = (clock.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request| {
            let (client, learner) = (client.clone(), learner.clone());
            async move {
                let answer = client.send(request).await?;
                let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
                learner.learn(date.unwrap_or_default(), Timestamp::now(), Instant::now());
                Ok::<_, kube::Error>(answer)
            }
        });
        (Client::new(service, namespace), clock)
    }

    /// An answer without a date that can be read says nothing.
    fn learn(&self, date: &str, here: Timestamp, at: Instant) {
        let Ok(server) = rfc2822::DateTimeParser::new().parse_timestamp(date) else { return };
        let reading = Reading { server, at, ahead: here.duration_since(server) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
    }

    fn reading(&self) -> Option<Reading> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time now; this machine's if the server has told none.
    pub(crate) fn now(&self) -> Timestamp {
        let told = self.reading().and_then(|reading| {
            let since = SignedDuration::try_from(reading.at.elapsed()).ok()?;
            reading.server.checked_add(since).ok()
        });
        told.unwrap_or_else(Timestamp::now)
    }

    /// This machine's clock minus the server's, if they differ by more than a few seconds.
    pub(crate) fn difference(&self) -> Option<SignedDuration> {
        self.reading().map(|reading| reading.ahead).filter(|ahead| ahead.abs() > DIFFERENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_goes_on_between_answers() {
        let clock = ServerClock::default();
        assert!(clock.now().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(2));
        let here: Timestamp = "2026-11-30T12:07:00Z".parse().unwrap();
        clock.learn("Mon, 30 Nov 2026 12:00:00 GMT", here, Instant::now());
        let server: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        assert!(clock.now().duration_since(server).abs() < SignedDuration::from_secs(5), "{}", clock.now());
        assert_eq!(clock.difference(), Some(SignedDuration::from_mins(7)));
        // What is no date changes nothing.
        clock.learn("yesterday", here, Instant::now());
        assert_eq!(clock.difference(), Some(SignedDuration::from_mins(7)));
        clock.learn("Mon, 30 Nov 2026 12:06:58 GMT", here, Instant::now());
        assert_eq!(clock.difference(), None);
    }
}
