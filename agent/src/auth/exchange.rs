//! One NTS key exchange (RFC 8915 §4): TLS 1.3 with the server that the user named, records through it, keys out of it.
//! All addresses of the server's name are tried ([`happy_eyeballs`]). All exchanges share one thread ([`exchanger`]). A
//! request in; a session and the NTP server's addresses out, or the reason for a failure, for the user.
mod request;

mod happy_eyeballs;

mod client;

mod exchanger;

pub(crate) use crate::auth::certificate::Validity;
pub(crate) use exchanger::{Exchanger, PendingExchange};
pub(crate) use request::{ExchangeRequest, ExchangeResult, Failure, NewSession};
