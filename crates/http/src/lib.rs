//! The HTTP code that both programs share. It has two parts, and knows no path of either program:
//!
//! * The proof that operator and agent know the token, which neither sends (`contract::proof` has the messages):
//!   `token` is the file with the token, `proof` makes and checks MACs, `client` is the client's side (`head` parses
//!   the head of an answer), `gate` is the server's side.
//! * With the feature `server`: a `server` that keeps working during a flood of connections. `limits` is its table of
//!   connections whose client has not proven the token, and chooses which one to close when a new one arrives.
//!   `connection` is one connection with its deadlines.
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

pub use client::{Client, HttpResponse, ProvenConnection, RequestError, Session, Untrusted, ask};
pub use head::{Head, LARGEST_HEAD, NotHttp, request};
pub use token::{NoToken, RecentTokens, Token, TokenFile};

#[cfg(feature = "server")]
pub use gate::Gate;
#[cfg(feature = "server")]
pub use limits::Limits;
#[cfg(feature = "server")]
pub use server::{Caller, serve, serve_local};
