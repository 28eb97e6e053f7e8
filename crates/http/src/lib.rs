//! HTTP of both programs. Two things are here, and no path of either program:
//!
//! * The proof that operator and agent know the token, which neither sends (`contract::proof` has the messages): `token` is
//!   the file with it, `proof` makes and checks MACs, `client` is the side that asks (`head` reads
//!   what comes first of an answer), `gate` the side that answers.
//! * With the feature `server`: a `server` that goes on under a flood. `limits` is its table of connections that have proven
//!   nothing, and says which of them goes when a new one comes; `connection` is one of them, with its deadlines.
#![forbid(unsafe_code)]

mod token;

mod proof;

mod head;

mod client;

#[cfg(feature = "server")]
mod gate;

#[cfg(feature = "server")]
mod limits;

#[cfg(feature = "server")]
mod connection;

#[cfg(feature = "server")]
mod server;

pub use client::{Answer, AskError, Client, Conversation, Session, Untrusted, ask};
pub use head::{Head, LARGEST_HEAD, NotHttp, request};
pub use token::{NoToken, Token, TokenFile};

#[cfg(feature = "server")]
pub use gate::Gate;
#[cfg(feature = "server")]
pub use limits::Limits;
#[cfg(feature = "server")]
pub use server::{Caller, serve, serve_local};
