//! The server: accepts connections, runs each in a task of its own, and passes requests to a router. Clients that have
//! not proven the token are limited in number, time and memory. Clients that have proven it, or that come through a
//! local socket that only root opens, are not.
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};
use contract::proof::{CHALLENGE_PATH, PROOF_HEADER};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task, time,
};

use crate::{
    connection::Connection,
    gate::{Gate, ProofState, close},
    limits::{Limits, UnprovenConnections},
};

/// Who sent a request: an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A process of this machine that may open the local socket.
    Local,
    /// A client that knows the token. Its answer is signed.
    Proven,
    /// Any other client.
    Unproven(SocketAddr),
}

/// Serves a port, without end. With a gate, clients may prove that they know the token.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, gate: Option<Arc<Gate>>) {
    let unproven = Arc::new(UnprovenConnections::new(limits));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // No descriptor is left, or the client closed before it was accepted. Neither ends the service.
            time::sleep(RETRY).await;
            continue;
        };
        let connection = Arc::new(Connection::new(Some(limits.lifetime)));
        let ends = unproven.add(peer.ip(), &connection);
        let connection_task = ConnectionTask {
            connection,
            caller: Caller::Unproven(peer),
            router: router.clone(),
            gate: gate.clone(),
            proof_state: Mutex::default(),
            unproven: Some(Arc::clone(&unproven)),
        };
        task::spawn(connection_task.run(stream));
        if ends {
            // Lets the closed connection free its descriptor before the next one is accepted.
            task::yield_now().await;
        }
    }
}

/// Serves a local socket, without end. Root and the user `owner` may connect, whatever the file's mode is.
pub async fn serve_local(listener: UnixListener, router: Router, owner: u32) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            time::sleep(RETRY).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| [0, owner].contains(&peer.uid())) {
            continue;
        }
        let connection_task = ConnectionTask {
            connection: Arc::new(Connection::new(None)),
            caller: Caller::Local,
            router: router.clone(),
            gate: None,
            proof_state: Mutex::default(),
            unproven: None,
        };
        task::spawn(connection_task.run(stream));
    }
}

const RETRY: Duration = Duration::from_millis(100);

/// Most octets of a request line and its headers together. A longer request is answered with status 431.
const LARGEST_HEAD: usize = 16 << 10;

/// Browsers send about 20.
const MOST_HEADERS: usize = 64;

/// One connection, and what answers its requests.
struct ConnectionTask {
    connection: Arc<Connection>,
    caller: Caller,
    router: Router,
    gate: Option<Arc<Gate>>,
    proof_state: Mutex<Option<ProofState>>,
    unproven: Option<Arc<UnprovenConnections>>,
}

impl ConnectionTask {
    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| self.answer(request));
        let http = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // An error of a connection affects only its client.
            _ = http => {}
            () = self.connection.expired() => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        self.connection.begin();
        let response = if request.body().is_end_stream() {
            self.route(request.map(|_| Body::empty())).await
        } else {
            // No path here takes a body.
            close((StatusCode::PAYLOAD_TOO_LARGE, "requests have no body here\n"))
        };
        self.connection.answered();
        Ok(response)
    }

    async fn route(&self, request: Request<Body>) -> Response {
        let Some(gate) = &self.gate else {
            return self.handle(request, self.caller).await;
        };
        let (head, body) = request.into_parts();
        if head.uri.path() == CHALLENGE_PATH {
            let (proof_state, response) = match gate.challenge(&head.headers) {
                Ok((proof_state, response)) => (Some(proof_state), response),
                Err(refusal) => (None, refusal.into_response()),
            };
            self.with_proof_state(|now| *now = proof_state);
            return response;
        }
        if !head.headers.contains_key(PROOF_HEADER) {
            return self.handle(Request::from_parts(head, body), self.caller).await;
        }
        match self.with_proof_state(|proof_state| gate.admit(proof_state, &head)) {
            Ok(admitted) => {
                self.connection.trust();
                self.forget_unproven();
                let response = self.handle(Request::from_parts(head, body), Caller::Proven).await;
                admitted.sign(response).await
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn handle(&self, mut request: Request<Body>, caller: Caller) -> Response {
        request.extensions_mut().insert(caller);
        match TowerToHyperService::new(self.router.clone()).call(request).await {
            Ok(response) => response.into_response(),
            Err(never) => match never {},
        }
    }

    /// Requests of one connection come one after the other, so no thread ever waits for this lock.
    fn with_proof_state<T>(&self, act: impl FnOnce(&mut Option<ProofState>) -> T) -> T {
        act(&mut self.proof_state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn forget_unproven(&self) {
        if let Some(unproven) = &self.unproven {
            unproven.remove(&self.connection);
        }
    }
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.forget_unproven();
    }
}
