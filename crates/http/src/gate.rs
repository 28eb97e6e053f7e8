//! The server's side: sends challenges, admits requests whose MAC is right, and signs the answers to them.
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
    proof::{Exchange, Handshake, nonce, unhex},
    token::{NoToken, Token, TokenFile},
};

/// The identity of this agent, and the tokens that a client must know.
#[derive(Debug)]
pub struct Gate {
    node: String,
    instance: String,
    tokens: TokenFile,
}

/// The handshake of one connection, and the number of requests that were proven since.
#[derive(Debug)]
pub(crate) struct ProofState {
    handshake: Handshake,
    counter: u64,
}

/// A request whose MAC was right, and what is needed to sign its answer.
#[derive(Debug)]
pub(crate) struct Admitted {
    handshake: Handshake,
    counter: u64,
    method: String,
    target: String,
    token: Token,
}

impl Gate {
    /// The gate of `node`'s agent.
    pub fn new(node: String, instance: String, tokens: TokenFile) -> Self {
        Self { node, instance, tokens }
    }

    /// Answers a request for a challenge. Refuses it if this agent has no token, since it could then check no MAC.
    pub(crate) fn challenge(&self, headers: &HeaderMap) -> Result<(ProofState, Response), AuthError> {
        self.tokens.tokens(Instant::now())?;
        let client = headers.get(NONCE_HEADER).and_then(|value| unhex(value.as_bytes()));
        let (client, agent) = (client.ok_or(AuthError::Nonce)?, nonce().map_err(AuthError::Random)?);
        let (node, instance) = (self.node.clone(), self.instance.clone());
        let challenge =
            Challenge { node: node.clone(), instance: instance.clone(), nonce: hex::encode(agent) };
        let handshake = Handshake { client, agent, node, instance };
        Ok((ProofState { handshake, counter: 0 }, Json(challenge).into_response()))
    }

    /// Checks the MAC of a request on a connection. After a wrong MAC the client must ask for a new challenge.
    pub(crate) fn admit(
        &self,
        proof_state: &mut Option<ProofState>,
        request: &Parts,
    ) -> Result<Admitted, AuthError> {
        let mut tokens = self.tokens.tokens(Instant::now())?.into_iter();
        let ProofState { handshake, counter } = proof_state.take().ok_or(AuthError::Proof)?;
        let proof = request.headers.get(PROOF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
        let (counter, method) = (counter + 1, request.method.as_str());
        let target = request.uri.path_and_query().map(|target| target.as_str()).unwrap_or_default();
        let exchange = Exchange { counter, method, target };
        let token = tokens.find(|token| handshake.proves_request(token, exchange, proof));
        let token = token.ok_or(AuthError::Proof)?;
        *proof_state = Some(ProofState { handshake: handshake.clone(), counter });
        let (method, target) = (method.to_owned(), target.to_owned());
        Ok(Admitted { handshake, counter, method, target, token })
    }
}

/// Why a request is not admitted.
#[derive(Debug)]
pub(crate) enum AuthError {
    /// This agent has no token.
    NoToken(NoToken),
    /// The client sent no nonce.
    Nonce,
    /// The system gives no random number.
    Random(io::Error),
    /// The MAC is wrong, or no challenge came before it.
    Proof,
}

impl From<NoToken> for AuthError {
    fn from(error: NoToken) -> Self {
        Self::NoToken(error)
    }
}

impl IntoResponse for AuthError {
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
    /// Adds the MAC to the answer.
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

/// Far above the size of any report.
const LARGEST_BODY: usize = 16 << 20;

/// An answer after which the connection ends.
pub(crate) fn close(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
