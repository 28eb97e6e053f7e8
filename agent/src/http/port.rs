//! Opens the HTTP port. While another process has it, that process is named, the clock is still steered, and the port
//! is tried again.
use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, task, time};
use tracing::{error, info};

use crate::{clock, report::Reporter, suspects::PortOwner};

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause. A try costs little, and the operator waits for this agent.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns when this process has the port.
pub(super) async fn open(address: SocketAddr, reporter: &Reporter) -> TcpListener {
    let (mut pause, mut owner, mut told) = (FIRST_PAUSE, PortOwner::of_tcp(), String::new());
    loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => {
                if !told.is_empty() {
                    info!(%address, "HTTP port is free again");
                    reporter.http(clock::now().wall, String::new());
                }
                return listener;
            }
            Err(error) => error,
        };
        let holder;
        (owner, holder) = holder_of(address, &error, owner).await;
        let message = trouble(address, &error, holder.as_deref());
        if told != message {
            error!(%address, %error, holder, "HTTP port cannot be opened; trying again, and the clock is steered");
            reporter.http(clock::now().wall, message.clone());
            told = message;
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Searches all processes of the node, in a thread of its own.
async fn holder_of(
    address: SocketAddr,
    error: &io::Error,
    mut owner: PortOwner,
) -> (PortOwner, Option<String>) {
    if error.kind() != io::ErrorKind::AddrInUse {
        return (owner, None);
    }
    let look = task::spawn_blocking(move || {
        let holder = owner.of(address.port());
        (owner, holder)
    });
    look.await.unwrap_or_else(|_| (PortOwner::of_tcp(), None))
}

fn trouble(address: SocketAddr, error: &io::Error, holder: Option<&str>) -> String {
    match (error.kind(), holder) {
        (io::ErrorKind::AddrInUse, Some(holder)) => {
            format!("{holder} has {address}: the operator cannot ask this agent; stop that process")
        }
        (io::ErrorKind::AddrInUse, None) => format!(
            "another process has {address}: the operator cannot ask this agent; find it with `ss -ltnp` and stop it"
        ),
        _ => format!("{address} cannot be opened: {error}: the operator cannot ask this agent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_port_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = held.local_addr().unwrap();
            let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
            let told = async {
                while reporter.report().http_message.is_empty() {
                    time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                _ = open(address, &reporter) => panic!("a port that is taken was opened"),
                told = time::timeout(Duration::from_secs(60), told) => assert!(told.is_ok()),
            }
            // This process does not count as the holder.
            let message = reporter.report().http_message;
            assert!(message.starts_with(&format!("another process has {address}: ")), "{message}");
            let kinds: Vec<_> = reporter.report().transitions.iter().map(|t| t.kind).collect();
            assert_eq!(kinds, [contract::TransitionKind::HttpPortTaken]);
            drop(held);
            let opened = time::timeout(Duration::from_secs(20), open(address, &reporter)).await;
            assert!(opened.is_ok());
        });
    }

    #[test]
    fn words() {
        let (address, taken) = ("192.0.2.1:9817".parse().unwrap(), io::Error::from_raw_os_error(98));
        let said = trouble(address, &taken, Some("python3 (pid 312)"));
        assert!(said.starts_with("python3 (pid 312) has 192.0.2.1:9817: "), "{said}");
        let gone = io::Error::from_raw_os_error(99);
        assert!(trouble(address, &gone, None).contains("Cannot assign requested address"));
    }
}
