//! The server: connections in, each to a task of its own; requests to a router. Whoever has proven nothing is bounded in
//! number, time and memory; whoever has the token, or comes through a socket that only root opens, is not.
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

/// Who asks: an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A process of this machine that may open the local socket.
    Local,
    /// A client that knows the token; the answer is signed.
    Proven,
    /// Anybody.
    Stranger(SocketAddr),
}

/// Answers on a port for ever. With a gate, clients may prove that they know the token.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, gate: Option<Arc<Gate>>) {
    let strangers = Arc::new(Strangers::new(limits));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, or gone before it was accepted: neither ends the service.
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
            // Its descriptor is free before the next one is taken.
            task::yield_now().await;
        }
    }
}

/// Answers on a local socket for ever. Root and the user `owner` may connect, whatever the file's mode is.
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

/// What a request line and its headers may have, in all; more is answered with 431.
const LARGEST_HEAD: usize = 16 << 10;

/// Browsers send some twenty.
const MOST_HEADERS: usize = 64;

/// One connection and what it is answered by.
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
            // How it ended concerns its client alone.
            _ = http => {}
            () = self.connection.over() => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        self.connection.begin();
        let response = if request.body().is_end_stream() {
            self.route(request.map(|_| Body::empty())).await
        } else {
            // There is nothing here that takes one.
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

    /// Requests of one connection come one after the other, so this lock is never waited for.
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
