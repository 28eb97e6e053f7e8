//! The proof that guards `/status`: operator and agent prove to each other that they know the token, and neither sends it.
//!
//! On one connection:
//! 1. `GET /challenge` with the client's nonce in [`NONCE_HEADER`]. The answer is a [`Challenge`]: the agent's node, its
//!    instance, and the agent's nonce for this connection. Nothing of this is secret or believed yet.
//! 2. Each request that needs the token carries a MAC in [`PROOF_HEADER`]. The agent answers it only if the MAC is right,
//!    and its answer carries a MAC in the same header. The client believes an answer only if that MAC is right.
//!
//! A MAC is HMAC-SHA256 with the token as its key, as 64 hexadecimal digits, over the octets of [`Message`]. So a MAC
//! is valid for one connection (both nonces), one agent (node and instance), one direction, and one exchange (the
//! counter). An attacker who records it cannot use it again, at this agent or another, and cannot change an answer on
//! its way.
//!
//! The client proves first: the agent gives no MAC to an unproven client, which could otherwise test guesses of the
//! token against it.
use serde::{Deserialize, Serialize};

/// The path at which the agent gives its nonce.
pub const CHALLENGE_PATH: &str = "/challenge";

/// Header of a request to [`CHALLENGE_PATH`]: the client's nonce, 64 hexadecimal digits.
pub const NONCE_HEADER: &str = "timesync-nonce";

/// Header of a request and of its answer: the MAC, 64 hexadecimal digits.
pub const PROOF_HEADER: &str = "timesync-proof";

/// A number that one side draws for one connection.
pub type Nonce = [u8; 32];

/// The agent's answer to `GET /challenge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The node that the agent runs on.
    pub node: String,
    /// The agent's instance, as in its report.
    pub instance: String,
    /// The agent's nonce for this connection, 64 hexadecimal digits.
    pub nonce: String,
}

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client, to the agent.
    Request,
    /// The agent, to the client.
    Response,
}

/// What a MAC covers.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who sends it.
    pub direction: Direction,
    /// The client's nonce of this connection.
    pub client: &'a Nonce,
    /// The agent's nonce of this connection.
    pub agent: &'a Nonce,
    /// The agent's node, as the side that makes or checks the MAC knows it.
    pub node: &'a str,
    /// The agent's instance.
    pub instance: &'a str,
    /// Number of the exchange on this connection, from 1.
    pub counter: u64,
    /// Method of the request.
    pub method: &'a str,
    /// Path and query of the request, as sent.
    pub target: &'a str,
    /// Status code of the answer; 0 in a request.
    pub status: u16,
    /// Body of the message.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The octets that the MAC covers. Each field has its length before it (64 bits, big-endian), so that no two
    /// messages have the same octets.
    pub fn octets(&self) -> Vec<u8> {
        let Self { direction, client, agent, node, instance, counter, method, target, status, body } = self;
        let direction = match direction {
            Direction::Request => "request",
            Direction::Response => "response",
        };
        let (counter, status) = (counter.to_be_bytes(), status.to_be_bytes());
        let fields: [&[u8]; 11] = [
            VERSION,
            direction.as_bytes(),
            &client[..],
            &agent[..],
            node.as_bytes(),
            instance.as_bytes(),
            &counter,
            method.as_bytes(),
            target.as_bytes(),
            &status,
            body,
        ];
        fields.iter().flat_map(|field| [&(field.len() as u64).to_be_bytes()[..], field].concat()).collect()
    }
}

/// Another scheme must use another name, so that a MAC of one scheme is never valid in the other.
const VERSION: &[u8] = b"timesync-proof-1";

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Message<'_> = Message {
        direction: Direction::Request,
        client: &[1; 32],
        agent: &[2; 32],
        node: "n1",
        instance: "i1",
        counter: 1,
        method: "GET",
        target: "/status",
        status: 0,
        body: b"",
    };

    #[test]
    fn every_field_is_covered() {
        let others = [
            Message { direction: Direction::Response, ..MESSAGE },
            Message { client: &[3; 32], ..MESSAGE },
            Message { agent: &[3; 32], ..MESSAGE },
            Message { client: &[2; 32], agent: &[1; 32], ..MESSAGE },
            Message { node: "n2", ..MESSAGE },
            Message { instance: "i2", ..MESSAGE },
            // The same letters, in other fields.
            Message { node: "n1i", instance: "1", ..MESSAGE },
            Message { method: "GET/", target: "status", ..MESSAGE },
            Message { counter: 2, ..MESSAGE },
            Message { method: "HEAD", ..MESSAGE },
            Message { target: "/status?after=1", ..MESSAGE },
            Message { status: 200, ..MESSAGE },
            Message { body: b"{}", ..MESSAGE },
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(other.octets(), MESSAGE.octets(), "{number}");
        }
    }
}
