//! HTTP for the kubelet and for Prometheus: /healthz, /readyz, /metrics. No token is needed, as is usual for such
//! endpoints. They show figures only, and at /readyz what keeps the operator from its work. A replica that waits to
//! lead is as healthy as the one that leads.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use timesync_http::Limits;
use tokio::net::TcpListener;
use tracing::error;

use crate::{health::Health, metrics::Metrics};

/// A kubelet, two Prometheus servers and a few people need far fewer connections. Behind a NAT all of them may have one
/// address.
const LIMITS: Limits = Limits { connections: 128, per_address: 64, lifetime: Duration::from_secs(30) };

/// Opens the port.
///
/// # Errors
/// If it cannot be opened. On a machine without IPv6, `[::]` is taken as `0.0.0.0`.
pub(crate) async fn open(listen: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(_) if listen.ip() == std::net::Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        opened => opened,
    }
}

/// Serves the port, without end.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Health) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || readiness(health.clone())))
        .route("/metrics", get(text))
        .with_state(metrics);
    timesync_http::serve(listener, routes, LIMITS, None).await;
}

/// A replica is ready if it could do its work when it leads.
async fn readiness(health: Health) -> (StatusCode, String) {
    let troubles = health.troubles();
    if troubles.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, troubles)
    }
}

async fn text(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            error!(%error, "Cannot write metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use timesync_http::ask;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn probes_are_answered_in_a_flood() {
        let listener = open("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Health::new(metrics.api_errors());
        let server = tokio::spawn(serve(listener, metrics, health));
        let mut held = Vec::new();
        for _ in 0..800 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ").await.unwrap();
            held.push(stream);
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            let stream = TcpStream::connect(address).await.unwrap().into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let answer = tokio::task::spawn_blocking(move || ask(stream, None, None, path));
            assert_eq!(answer.await.unwrap().unwrap().status, 200, "{path}");
        }
        let mut open = 0;
        for stream in &mut held {
            // Connections that were closed return at once.
            let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
            open += usize::from(read.is_err());
        }
        assert!(open <= LIMITS.per_address, "{open} of 800 are open");
        server.abort();
    }
}
