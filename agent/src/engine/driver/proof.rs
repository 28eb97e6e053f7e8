//! Proof in the event loop: completes requests, requests key exchanges, and verifies a datagram before the engine gets
//! it.
use ntp::{Auth, Event, NtpTimestamp, RequestId, SendError, SourceId, Wall, packet::Header};
use tracing::{debug, info, warn};

use super::{Driver, timed_action::TimedAction};
use crate::auth::{
    AuthFailure,
    exchange::{ExchangeRequest, ExchangeResult, Failure, NewSession, Validity},
};

/// The year in which this was written: a correct clock shows no time before 2026.
const EARLIEST: Wall = Wall(1_767_225_600_000_000_000);

impl Driver {
    /// Gives the request a cookie and its proof. If that is not possible, informs the engine, and returns the actions
    /// that it wants.
    pub(super) fn prove(
        &mut self,
        request: RequestId,
        source: SourceId,
        header: Header,
    ) -> Result<(NtpTimestamp, Vec<u8>), Vec<TimedAction>> {
        let cookie = match sys::random::word() {
            Ok(word) => NtpTimestamp(word),
            Err(error) => {
                debug!(%error, "Request not sent");
                let why = SendError::Other(error.errno());
                return Err(self.notify_engine(Event::SendFailed { request, why }));
            }
        };
        let auth = self.auth(source);
        let header = header.with_cookie(cookie).encode();
        let why = match self.authenticator.complete(request, source, &auth, header) {
            Ok(datagram) => return Ok((cookie, datagram)),
            Err(why) => why,
        };
        let mut wanted = Vec::new();
        if let Some(why) = &why {
            wanted.extend(self.notify_engine(Event::Unproven { source, why }));
        }
        wanted.extend(self.notify_engine(Event::SendFailed { request, why: SendError::Unproven }));
        Err(wanted)
    }

    /// The proof of a datagram for `request` fails.
    pub(super) fn reject(&mut self, request: RequestId, refused: &AuthFailure) {
        debug!(request = request.0, why = refused.why, "Datagram refused");
        self.handle(Event::Unauthentic { request, why: &refused.why });
        if let Some(source) = refused.lost {
            self.handle(Event::Unproven { source, why: &refused.why });
        }
    }

    /// Requests a key exchange for a source with NTS, instead of a lookup of its name; none for any other source.
    pub(super) fn exchange(&mut self, source: SourceId, host: &str) -> Option<Vec<TimedAction>> {
        let Auth::Nts { ca, port } = self.auth(source) else { return None };
        let request = ExchangeRequest {
            epoch: self.epoch,
            source,
            host: host.to_owned(),
            with: self.engine.as_ref().and_then(|engine| engine.exchange_with(source)),
            port,
            ca: ca.map(|file| self.authenticator.path(&file)),
            validity: self.validity(source),
        };
        if self.authenticator.exchange(request) {
            return Some(Vec::new());
        }
        let why = "Network Time Security needs a thread, which --engine-only forbids.";
        Some(self.notify_engine(Event::Unproven { source, why }))
    }

    /// The time for the verification of a certificate: the system clock's, or the last time known to be right if that
    /// is later. It is left open once for each source if the clock is known to be wrong in this boot, and is to be set
    /// by the source's time. Otherwise a node without RTC that was off for long would refuse every new certificate for
    /// good.
    fn validity(&self, source: SourceId) -> Validity {
        let system = self.clock.now().wall;
        let floor = self.state.time().unwrap_or(EARLIEST).max(EARLIEST);
        // A clock that was set to the floor shows no better time than that.
        let is_wrong = system < floor || self.state.raises() > 0;
        if is_wrong && !self.boot.synchronized && !self.authenticator.has_session(source) {
            warn!(
                "The clock is behind the last time known to be right: a certificate's dates are not tested"
            );
            return Validity::Ever;
        }
        Validity::At(u64::try_from(system.max(floor).0 / 1_000_000_000).unwrap_or(0))
    }

    /// Takes the end of a key exchange.
    pub(in crate::engine) fn exchanged(&mut self, answer: ExchangeResult) {
        let ExchangeResult { epoch, source, outcome } = answer;
        let present = self.engine.as_ref().is_some_and(|engine| engine.has(source));
        if epoch != self.epoch || !present {
            return;
        }
        match outcome {
            Ok(NewSession { session, addresses, port }) => {
                info!(source = source.0, server = ?addresses.first(), port, "Keys exchanged");
                self.authenticator.exchanged(source, Some(session));
                self.handle(Event::Keyed { source, addresses: &addresses, port });
            }
            Err(failure) => {
                self.authenticator.exchanged(source, None);
                let (Failure::Unresolved(why) | Failure::Refused(why)) = &failure;
                warn!(why, "No keys exchanged");
                self.handle(match &failure {
                    Failure::Unresolved(why) => Event::Unresolved { source, why },
                    Failure::Refused(why) => Event::Unproven { source, why },
                });
            }
        }
    }

    fn auth(&self, source: SourceId) -> Auth {
        self.engine.as_ref().and_then(|engine| engine.auth(source)).cloned().unwrap_or(Auth::None)
    }
}
