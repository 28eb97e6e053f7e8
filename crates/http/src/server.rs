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
    gate::{Gate, Met, close},
    limits::{Limits, Strangers},
};

/// Who sent a request: an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A process of this machine that may open the local socket.
    Local,
    /// A client that knows the token. Its answer is signed.
    Proven,
    /// Any other client.
    Stranger(SocketAddr),
}

/// Serves a port, without end. With a gate, clients may prove that they know the token.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, gate: Option<Arc<Gate>>) {
    let strangers = Arc::new(Strangers::new(limits));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // No descriptor is left, or the client closed before it was accepted. Neither ends the service.
            time::sleep(RETRY).await;
            continue;
        };
        let connection = Arc::new(Connection::new(Some(limits.lifetime)));
        let ends = strangers.enter(peer.ip(), &connection);
        let talk = Talk {
            connection,
            caller: Caller::Stranger(peer),
            router: router.clone(),
            gate: gate.clone(),
            met: Mutex::default(),
            strangers: Some(Arc::clone(&strangers)),
        };
        task::spawn(talk.keep(stream));
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
        let talk = Talk {
            connection: Arc::new(Connection::new(None)),
            caller: Caller::Local,
            router: router.clone(),
            gate: None,
            met: Mutex::default(),
            strangers: None,
        };
        task::spawn(talk.keep(stream));
    }
}

const RETRY: Duration = Duration::from_millis(100);

/// Most octets of a request line and its headers together. A longer request is answered with status 431.
const LARGEST_HEAD: usize = 16 << 10;

/// Browsers send about 20.
const MOST_HEADERS: usize = 64;

/// One connection, and what answers its requests.
struct Talk {
    connection: Arc<Connection>,
    caller: Caller,
    router: Router,
    gate: Option<Arc<Gate>>,
    met: Mutex<Option<Met>>,
    strangers: Option<Arc<Strangers>>,
}

impl Talk {
    async fn keep(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| self.answer(request));
        let http = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // An error of the connection concerns its client alone.
            _ = http => {}
            () = self.connection.over() => {}
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
            let (met, response) = match gate.challenge(&head.headers) {
                Ok((met, response)) => (Some(met), response),
                Err(refusal) => (None, refusal.into_response()),
            };
            self.meet(|now| *now = met);
            return response;
        }
        if !head.headers.contains_key(PROOF_HEADER) {
            return self.handle(Request::from_parts(head, body), self.caller).await;
        }
        match self.meet(|met| gate.admit(met, &head)) {
            Ok(admitted) => {
                self.connection.trust();
                self.leave();
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
    fn meet<T>(&self, act: impl FnOnce(&mut Option<Met>) -> T) -> T {
        act(&mut self.met.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn leave(&self) {
        if let Some(strangers) = &self.strangers {
            strangers.leave(&self.connection);
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.leave();
    }
}
