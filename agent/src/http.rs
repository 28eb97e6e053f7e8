//! HTTP: `/metrics`, `/synchronized`, `/healthz` and `/readyz` for every client, `/status` for clients that prove that
//! they know the token (or, without a token, for this machine). The same over a local socket that only root can open:
//! health checks must not depend on a port that strangers can reach. Changes nothing.
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use contract::{Assignment, Report};
use timesync_http::{Caller, Gate, Limits};
use tokio::time;
use tracing::info;

use crate::{clock, liveness::Liveness, metrics::Metrics, report::Reporter, server::Server};

mod local;
mod port;
mod synchronized;

/// What the handlers use.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The report.
    pub(crate) reporter: Arc<Reporter>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The server, with its counters.
    pub(crate) server: Arc<Server>,
    /// Whether the engine's event loop is alive.
    pub(crate) liveness: Arc<Liveness>,
    /// The gate for clients with the token, if one is required.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Serves the local `socket`, and `address` if there is one, without end.
pub(crate) async fn serve(address: Option<SocketAddr>, socket: PathBuf, shared: Arc<Shared>) {
    let (reporter, gate) = (Arc::clone(&shared.reporter), shared.gate.clone());
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/synchronized", get(synchronized))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(shared);
    let local = local::serve(socket, router.clone());
    let port = async {
        if let Some(address) = address {
            let listener = port::open(address, &reporter).await;
            info!(%address, "HTTP is served");
            timesync_http::serve(listener, router, limits(gate.is_some()), gate).await;
        }
    };
    tokio::join!(local, port);
}

/// The limits are far above the need of two Prometheus servers, two operators and a few people. With many network
/// plugins all of them, and an attacker too, have the same address: that of a node.
fn limits(has_token: bool) -> Limits {
    // Without a token, programs of this machine wait for news without a proof.
    let lifetime = if has_token { Duration::from_secs(30) } else { LONGEST_WAIT + Duration::from_secs(15) };
    Limits { connections: 64, per_address: 32, lifetime }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.text(
        &shared.reporter.report(),
        &shared.reporter.conflicts(),
        shared.server.counters(),
    ) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn synchronized(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let clock = shared.reporter.clock(clock::now().wall, shared.liveness.idle());
    synchronized::answer(clock, shared.liveness.is_alive(), &query)
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.liveness.is_alive() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the engine's loop stands still\n").into_response()
    }
}

/// The agent is ready if it does what it was told to do. That includes `none`: otherwise no rollout of the agents would
/// end on nodes without a policy.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let report = shared.reporter.report();
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
    Extension(caller): Extension<Caller>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if let Err(refusal) = authorize(caller, shared.gate.is_some()) {
        return refusal.into_response();
    }
    let (after, wait) = match parse_query(&query) {
        Ok(parsed) => parsed,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let mut sequence = shared.reporter.sequence();
    // A number other than the present one is from an earlier instance, or older. In both cases the report has changed.
    let news = sequence.wait_for(|now| after != Some(*now));
    let _ = time::timeout(wait, news).await;
    let report = shared.reporter.report();
    // `timesync-agent status` shows the whole report. The operator accepts only what is within the limits.
    let report = if matches!(caller, Caller::Local) { report } else { within_limits(report) };
    Json(report).into_response()
}

/// The report within the operator's limits.
fn within_limits(mut report: Report) -> Report {
    report.clamp();
    report.fit(|report| serde_json::to_vec(report).map_or(0, |json| json.len()));
    report
}

/// The longest wait. Proxies and clients may time out after that.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Parses `after=N` and `wait=30s`.
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

/// Refuses a caller that may not read the status.
fn authorize(caller: Caller, has_token: bool) -> Result<(), (StatusCode, &'static str)> {
    match caller {
        Caller::Local | Caller::Proven => Ok(()),
        Caller::Unproven(_) if has_token => {
            Err((StatusCode::UNAUTHORIZED, "a proof of the token is needed (docs/agent.md, \"HTTP\")\n"))
        }
        Caller::Unproven(peer) if peer.ip().to_canonical().is_loopback() => Ok(()),
        Caller::Unproven(_) => Err((StatusCode::FORBIDDEN, "only from this machine: no token is set\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers() {
        let stranger = |address: &str| Caller::Unproven(address.parse().unwrap());
        let check = |caller, has_token, expected: Option<u16>| {
            let refused = authorize(caller, has_token).err().map(|(code, _)| code.as_u16());
            assert_eq!(refused, expected, "{caller:?} {has_token}");
        };
        for has_token in [false, true] {
            check(Caller::Local, has_token, None);
            check(Caller::Proven, has_token, None);
        }
        check(stranger("127.0.0.1:1"), false, None);
        check(stranger("[::ffff:127.0.0.1]:1"), false, None);
        check(stranger("192.0.2.1:1"), false, Some(403));
        check(stranger("127.0.0.1:1"), true, Some(401));
        check(stranger("192.0.2.1:1"), true, Some(401));
    }

    #[test]
    fn the_operator_is_sent_no_more_than_it_takes() {
        let mut snapshot = crate::report::tests::snapshot();
        let source = snapshot.sources.remove(0);
        for number in 0..contract::limits::MOST_SOURCES {
            let (id, name) =
                (ntp::SourceId(u32::try_from(number).unwrap()), format!("pool.example.com#{number}"));
            let why = "It does not answer; the name has another address. ".repeat(30);
            snapshot.sources.push(ntp::SourceSnapshot { id, name, why, ..source.clone() });
        }
        let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
        reporter.engine(snapshot.at, Some(snapshot), &[]);
        let whole = reporter.report();
        let sent = within_limits(whole.clone());
        let size = |report: &Report| serde_json::to_vec(report).unwrap().len();
        assert!(size(&whole) > contract::limits::LARGEST_REPORT, "{}", size(&whole));
        assert!(size(&sent) <= contract::limits::LARGEST_REPORT, "{}", size(&sent));
        assert!(sent.sources.len() > 64 && sent.clock.message.contains("of 256 upstreams"), "{sent:?}");
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
