//! The side that answers: hands out challenges, lets in requests whose MAC is right, and signs what is answered to them.
use std::{io, time::Instant};

use axum::{
    Json,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header::CONNECTION, request::Parts},
    response::{IntoResponse, Response},
};
use contract::proof::{Challenge, NONCE_HEADER, PROOF_HEADER};
use tracing::error;

use crate::{
    proof::{Exchange, Handshake, hex, nonce, unhex},
    token::{NoToken, Token, TokenFile},
};

/// Who we are, and what must be known.
#[derive(Debug)]
pub struct Gate {
    node: String,
    instance: String,
    tokens: TokenFile,
}

/// The handshake of one connection, and how many requests proved themselves since.
#[derive(Debug)]
pub(crate) struct Met {
    handshake: Handshake,
    counter: u64,
}

/// A request that proved itself, and how its answer is signed.
#[derive(Debug)]
pub(crate) struct Admitted {
    handshake: Handshake,
    counter: u64,
    method: String,
    target: String,
    token: Token,
}

impl Gate {
    /// For the agent of `node`.
    pub fn new(node: String, instance: String, tokens: TokenFile) -> Self {
        Self { node, instance, tokens }
    }

    /// Answers a request for a challenge. Without a token of our own there is nothing to prove.
    pub(crate) fn challenge(&self, headers: &HeaderMap) -> Result<(Met, Response), Refusal> {
        self.tokens.tokens(Instant::now())?;
        let client = headers.get(NONCE_HEADER).and_then(|value| unhex(value.as_bytes()));
        let (client, agent) = (client.ok_or(Refusal::Nonce)?, nonce().map_err(Refusal::Random)?);
        let (node, instance) = (self.node.clone(), self.instance.clone());
        let challenge = Challenge { node: node.clone(), instance: instance.clone(), nonce: hex(&agent) };
        let handshake = Handshake { client, agent, node, instance };
        Ok((Met { handshake, counter: 0 }, Json(challenge).into_response()))
    }

    /// Checks the MAC of a request on a connection. After a wrong one the connection has to begin anew.
    pub(crate) fn admit(&self, met: &mut Option<Met>, request: &Parts) -> Result<Admitted, Refusal> {
        let mut tokens = self.tokens.tokens(Instant::now())?.into_iter();
        let Met { handshake, counter } = met.take().ok_or(Refusal::Proof)?;
        let proof = request.headers.get(PROOF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
        let (counter, method) = (counter + 1, request.method.as_str());
        let target = request.uri.path_and_query().map(|target| target.as_str()).unwrap_or_default();
        let exchange = Exchange { counter, method, target };
        let token = tokens.find(|token| handshake.proves_request(token, exchange, proof));
        let token = token.ok_or(Refusal::Proof)?;
        *met = Some(Met { handshake: handshake.clone(), counter });
        let (method, target) = (method.to_owned(), target.to_owned());
        Ok(Admitted { handshake, counter, method, target, token })
    }
}

/// Why a request is not let in.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// We know no token ourselves.
    NoToken(NoToken),
    /// The client sent no nonce.
    Nonce,
    /// The system has no random number.
    Random(io::Error),
    /// The MAC is wrong, or there was no challenge before it.
    Proof,
}

impl From<NoToken> for Refusal {
    fn from(error: NoToken) -> Self {
        Self::NoToken(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NoToken(error) => {
                close((StatusCode::SERVICE_UNAVAILABLE, format!("there is no token yet: {error}\n")))
            }
            Self::Nonce => {
                let message = format!("{NONCE_HEADER} must have 64 hexadecimal digits\n");
                (StatusCode::BAD_REQUEST, message).into_response()
            }
            Self::Random(error) => {
                error!(%error, "No random number");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
            Self::Proof => close((StatusCode::UNAUTHORIZED, "the proof of the token is wrong\n")),
        }
    }
}

impl Admitted {
    /// Puts the MAC on the answer.
    pub(crate) async fn sign(self, response: Response) -> Response {
        let (mut head, body) = response.into_parts();
        let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let Self { handshake, counter, method, target, token } = self;
        let exchange = Exchange { counter, method: &method, target: &target };
        let proof = handshake.response(&token, exchange, head.status.as_u16(), &body);
        let proof = HeaderValue::try_from(proof).expect("hexadecimal digits make a header");
        head.headers.insert(PROOF_HEADER, proof);
        Response::from_parts(head, Body::from(body))
    }
}

/// Far above any report.
const LARGEST_BODY: usize = 16 << 20;

/// An answer after which the connection ends.
pub(crate) fn close(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
