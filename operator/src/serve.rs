//! HTTP for the kubelet and for Prometheus: /healthz, /readyz, /metrics. Open, as such endpoints are; it tells nothing
//! but figures. A replica that waits for its turn is as healthy as the one that leads.
use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tracing::error;

use crate::metrics::Metrics;

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

/// Answers until the program ends.
///
/// # Errors
/// If the port fails.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(text))
        .with_state(metrics);
    axum::serve(listener, routes).await
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
