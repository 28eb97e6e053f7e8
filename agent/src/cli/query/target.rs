//! The host of `query` → the addresses to ask, in the resolver's order, each with its port and, for a link-local
//! address, its interface.
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs},
};

use contract::{Host, HostError, HostText};
use sys::interface;

const NTP_PORT: u16 = 123;

/// Why there is no address to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The text is not a host.
    #[error("{host:?} {source}")]
    Host {
        /// The host as it was given.
        host: String,
        /// What is wrong.
        source: HostError,
    },
    /// The name does not resolve.
    #[error("{host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// A link-local address without a zone.
    #[error("{0} is a link-local address: write {0}%eth0, with the interface behind which the server is")]
    NoZone(IpAddr),
    /// The zone is not an interface of this machine.
    #[error("{host}: this machine has no network interface {zone}")]
    NoInterface {
        /// The host as it was given.
        host: String,
        /// The interface.
        zone: String,
    },
}

/// The addresses for `text`; at least one.
pub(super) fn addresses(text: &str) -> Result<Vec<SocketAddr>, Error> {
    let HostText { host, port, .. } =
        HostText::parse(text).map_err(|source| Error::Host { host: text.to_owned(), source })?;
    let port = port.unwrap_or(NTP_PORT);
    match host {
        Host::Address(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Err(Error::NoZone(v6.into())),
        Host::Address(address) => Ok(vec![SocketAddr::new(address, port)]),
        Host::Zoned(address, zone) => {
            let known = zone.parse().or_else(|_| interface::index(&zone));
            let scope = known.map_err(|_| Error::NoInterface { host: text.to_owned(), zone })?;
            Ok(vec![SocketAddrV6::new(address, port, 0, scope).into()])
        }
        Host::Name(name) => resolve(&name, port),
    }
}

/// Resolves a name; each address once.
fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let failed = |source| Error::Resolve { host: name.to_owned(), source };
    let mut addresses = Vec::new();
    for address in (name, port).to_socket_addrs().map_err(failed)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(failed(io::Error::other("it has no address"))) } else { Ok(addresses) }
}

/// Asks each address in turn until one answers. Returns the address and its answer. `tell` is called for each address
/// that failed, with the one that is asked next. A single address is asked again, since a datagram may be lost; of
/// several, each is asked once.
///
/// # Errors
/// If none answered: the error of each address.
pub(super) fn first_answer<A>(
    addresses: &[SocketAddr],
    mut ask: impl FnMut(SocketAddr) -> Result<A, String>,
    mut tell: impl FnMut(SocketAddr, &str, SocketAddr),
) -> Result<(SocketAddr, A), NoReply> {
    const REQUESTS: usize = 4;
    let rounds = (REQUESTS / addresses.len().max(1)).max(1);
    let mut failures: Vec<(SocketAddr, String)> = Vec::new();
    for round in 0..rounds {
        for (n, &address) in addresses.iter().enumerate() {
            match ask(address) {
                Ok(answer) => return Ok((address, answer)),
                Err(why) => {
                    if let Some(&next) = addresses.get(n + 1).filter(|_| round == 0) {
                        tell(address, &why, next);
                    }
                    failures.retain(|(failed, _)| *failed != address);
                    failures.push((address, why));
                }
            }
        }
    }
    Err(NoReply(failures))
}

/// The addresses that did not answer, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoReply(Vec<(SocketAddr, String)>);

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (address, why)) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {why}", if n > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_a_port() {
        let check = |host: &str, expected: &str| {
            let found =
                addresses(host).map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>());
            let found = found.map(|found| found.join(" ")).unwrap_or_else(|error| error.to_string());
            assert_eq!(found, expected);
        };
        check("192.0.2.1", "192.0.2.1:123");
        check("192.0.2.1:1123", "192.0.2.1:1123");
        check("2001:db8::1", "[2001:db8::1]:123");
        check("[2001:db8::1]", "[2001:db8::1]:123");
        check("[2001:db8::1]:1123", "[2001:db8::1]:1123");
        let lo = interface::index("lo").unwrap();
        check("fe80::1%lo", &format!("[fe80::1%{lo}]:123"));
        check("[fe80::1%lo]:1123", &format!("[fe80::1%{lo}]:1123"));
        check("fe80::1%7", "[fe80::1%7]:123");
        check("fe80::1%no-such-if", "fe80::1%no-such-if: this machine has no network interface no-such-if");
        check(
            "fe80::1",
            "fe80::1 is a link-local address: write fe80::1%eth0, with the interface behind which the server is",
        );
        check(
            "[192.0.2.1]:123",
            "\"[192.0.2.1]:123\" has brackets, which are for IPv6 addresses: write 192.0.2.1:123",
        );
        assert!(matches!(addresses("no.such.name.invalid"), Err(Error::Resolve { .. })));
    }

    #[test]
    fn the_next_address_is_asked_when_one_does_not_answer() {
        let at = |n: u8| SocketAddr::from(([192, 0, 2, n], 123));
        let check = |count: u8, answers: u8, expected: Result<u8, &str>, asked: usize, told: usize| {
            let addresses: Vec<_> = (1..=count).map(at).collect();
            let (mut requests, mut words) = (0, Vec::new());
            let found = first_answer(
                &addresses,
                |address| {
                    requests += 1;
                    if address == at(answers) { Ok(()) } else { Err(format!("no {requests}")) }
                },
                |failed, why, next| words.push(format!("{failed} {why} {next}")),
            );
            let found = found.map(|(address, ())| address).map_err(|silence| silence.to_string());
            assert_eq!(found, expected.map(at).map_err(str::to_owned));
            assert_eq!((requests, words.len()), (asked, told), "{words:?}");
        };
        check(1, 1, Ok(1), 1, 0);
        check(3, 3, Ok(3), 3, 2);
        check(1, 9, Err("192.0.2.1:123: no 4"), 4, 0);
        check(2, 9, Err("192.0.2.1:123: no 3; 192.0.2.2:123: no 4"), 4, 1);
        check(
            5,
            9,
            Err("192.0.2.1:123: no 1; 192.0.2.2:123: no 2; 192.0.2.3:123: no 3; 192.0.2.4:123: no 4; \
                         192.0.2.5:123: no 5"),
            5,
            4,
        );
    }
}
