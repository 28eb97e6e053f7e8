//! HTTP: `/metrics`, `/healthz`, `/readyz` for anybody, `/status` for those who know the token (or, where there is
//! none, for this machine). Reads the journal and the token's file; changes nothing.
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use contract::Assignment;
use tokio::{net::TcpListener, time};
use tracing::{error, info};

use crate::{liveness::Liveness, load, metrics::Metrics, report::Journal, server::Server};

mod listener;

use listener::{Limited, Peer};

/// What the handlers look at.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The report.
    pub(crate) journal: Arc<Journal>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The server, for its counters.
    pub(crate) server: Arc<Server>,
    /// Whether the engine's loop turns.
    pub(crate) liveness: Arc<Liveness>,
    /// File with the token, if one is asked for.
    pub(crate) token_file: Option<PathBuf>,
}

/// Serves at `address` for ever. An address that is taken is tried again: the clock is steered meanwhile.
pub(crate) async fn serve(address: SocketAddr, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(shared)
        .into_make_service_with_connect_info::<Peer>();
    let listener = listen(address).await;
    info!(%address, "HTTP is served");
    if let Err(error) = axum::serve(Limited::new(listener), router).await {
        error!(%error, "HTTP ended");
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !told => {
                error!(%address, %error, "HTTP cannot listen; trying again");
                told = true;
            }
            Err(_) => {}
        }
        time::sleep(Duration::from_secs(2)).await;
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.text(&shared.journal.report(), &shared.journal.conflicts(), shared.server.counters())
    {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.liveness.is_alive() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the engine's loop stands still\n").into_response()
    }
}

/// Ready: the agent does what it was told to. Nothing at all (`none`) counts, else no rollout of the agents would
/// ever end on nodes without a policy.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let report = shared.journal.report();
    if !shared.liveness.is_alive() {
        (StatusCode::SERVICE_UNAVAILABLE, "the engine's loop stands still\n").into_response()
    } else if report.profile.is_none() && report.assignment != Assignment::None {
        (StatusCode::SERVICE_UNAVAILABLE, "no profile runs\n").into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn status(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = authorize(&shared, peer, &headers) {
        return refusal.into_response();
    }
    let (after, wait) = match parse_query(&query) {
        Ok(parsed) => parsed,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let mut sequence = shared.journal.sequence();
    // A number that is not the present one is of an earlier instance or has passed: there is news in both cases.
    let news = sequence.wait_for(|now| after != Some(*now));
    let _ = time::timeout(wait, news).await;
    Json(shared.journal.report()).into_response()
}

/// The longest wait: beyond it proxies and clients lose patience.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// `after=N` and `wait=30s`.
fn parse_query(query: &[(String, String)]) -> Result<(Option<u64>, Duration), String> {
    let (mut after, mut wait) = (None, Duration::ZERO);
    for (key, value) in query {
        match key.as_str() {
            "after" => after = Some(value.parse().map_err(|_| format!("after: {value:?} is no number\n"))?),
            "wait" => {
                let span: contract::Span = value.parse().map_err(|e| format!("wait: {e}\n"))?;
                wait = span.as_duration().min(LONGEST_WAIT);
            }
            _ => return Err(format!("{key:?} is unknown: after=N and wait=30s are known\n")),
        }
    }
    Ok((after, wait))
}

/// Whether the caller may read the status.
fn authorize(
    shared: &Shared,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    let Some(file) = &shared.token_file else {
        let near = peer.ip().to_canonical().is_loopback();
        return if near {
            Ok(())
        } else {
            Err((StatusCode::FORBIDDEN, "only from this machine: no token is set\n"))
        };
    };
    // Read anew each time: a Secret that is rotated holds at once.
    let token =
        load::read(file).map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be read\n"))?;
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match given {
        Some(given) if same(given, token.trim().as_bytes()) => Ok(()),
        _ => Err((StatusCode::UNAUTHORIZED, "a bearer token is needed\n")),
    }
}

/// Whether both are the same and not empty, in a time that depends on the length of `given` alone.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differing = given.iter().enumerate().fold(given.len() ^ token.len(), |differing, (n, octet)| {
        let other = token.get(n).copied().unwrap_or(0);
        std::hint::black_box(differing | usize::from(octet ^ other))
    });
    differing == 0 && !token.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        assert!(same(b"secret", b"secret"));
        for given in [&b""[..], b"secre", b"secrets", b"sEcret", b"xxxxxx"] {
            assert!(!same(given, b"secret"), "{given:?}");
        }
        assert!(!same(b"", b""), "an empty file opens nothing");
    }

    #[test]
    fn queries() {
        let check = |text: &[(&str, &str)]| {
            parse_query(&text.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(check(&[]), Ok((None, Duration::ZERO)));
        assert_eq!(check(&[("after", "7"), ("wait", "30s")]), Ok((Some(7), Duration::from_secs(30))));
        assert_eq!(check(&[("wait", "2h")]), Ok((None, LONGEST_WAIT)));
        for wrong in [("after", "x"), ("after", "-1"), ("wait", "30"), ("since", "7")] {
            assert!(check(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
