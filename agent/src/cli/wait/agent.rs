//! Asks the agent of a node over HTTP whether its clock is right. Another process may have the port, so
//! an answer that is too long or too late is rejected.
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use contract::{Host, HostText, LargestBound, Synchronized, limits::limit_message};
use timesync_http::{HttpResponse, RequestError, ask};

use super::not_right::NotRight;

/// The port of agents.
const PORT: u16 = 9817;

/// Parses the agent's address, with or without its port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    const FORM: &str = "write an address, such as 192.0.2.1 or [2001:db8::1]:9817";
    match HostText::parse(text) {
        Ok(HostText { host: Host::Address(address), port, .. }) if !is_link_local(address) => {
            Ok(SocketAddr::new(address, port.unwrap_or(PORT)))
        }
        Ok(_) => Err(FORM.to_owned()),
        Err(why) => Err(format!("it {why}; {FORM}")),
    }
}

/// A link-local address is a different host on each interface, so it does not name one agent.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Asks once, for at most `limit`.
pub(super) fn look(
    address: SocketAddr,
    largest: Option<LargestBound>,
    limit: Duration,
) -> Result<String, NotRight> {
    let target = match largest {
        Some(largest) => format!("/synchronized?bound={largest}"),
        None => "/synchronized".to_owned(),
    };
    let deadline = Instant::now() + limit;
    let stream = TcpStream::connect_timeout(&address, limit).map_err(|error| unreachable(address, &error))?;
    let stream = Limited { stream, deadline, room: LARGEST_ANSWER };
    match ask(stream, None, None, &target) {
        Ok(answer) => judge(address, &answer),
        Err(RequestError::Connection(error)) if error.kind() != io::ErrorKind::InvalidData => {
            Err(unreachable(address, &error))
        }
        Err(error) => Err(stranger(address, &error.to_string())),
    }
}

fn unreachable(address: SocketAddr, error: &io::Error) -> NotRight {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        let message = format!(
            "no program listens at {address}: the agent may start later; if it listens at another address, give that \
             (--address, TIMESYNC_ADDRESS)"
        );
        return NotRight::new("ConnectionRefused", message);
    }
    NotRight::new("NoAnswer", format!("no answer from {address}: {error}"))
}

fn stranger(address: SocketAddr, why: &str) -> NotRight {
    NotRight::new("NoAgent", format!("what listens at {address} is not an agent of this kind: {why}"))
}

fn judge(address: SocketAddr, answer: &HttpResponse) -> Result<String, NotRight> {
    let text = String::from_utf8_lossy(&answer.body);
    match (answer.status, serde_json::from_str::<Synchronized>(&text)) {
        (200, Ok(clock)) if clock.synchronized => {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
            let (offset, bound) = (shown(&clock.offset), shown(&clock.error_bound));
            let reason = clock.reason.as_str();
            let mut right = format!("{reason}: {} (offset {offset}, error bound {bound})", clock.message);
            // Any process may have written it, and it is shown on a terminal.
            limit_message(&mut right);
            Ok(right)
        }
        (503, Ok(clock)) if !clock.synchronized => Err(NotRight::new(clock.reason.as_str(), clock.message)),
        (404, _) => Err(NotRight::new(
            "NotSupported",
            format!("the agent at {address} has no /synchronized: it is of an older version"),
        )),
        (400, _) => Err(NotRight::new("Refused", format!("the agent at {address} refuses: {}", text.trim()))),
        (status, _) => Err(stranger(address, &format!("it answers {status} with another body"))),
    }
}

/// A connection that ends at `deadline`, or when the other side has sent more than an agent does.
struct Limited {
    stream: TcpStream,
    deadline: Instant,
    /// Octets that may still come.
    room: usize,
}

/// Octets: far more than an agent's head and body have, and little memory.
const LARGEST_ANSWER: usize = 16 << 10;

impl Limited {
    /// The time that is left; an error if there is none.
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(too_late()) } else { Ok(left) }
    }
}

impl Read for Limited {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is too long"));
        }
        self.stream.set_read_timeout(Some(self.left()?))?;
        let most = octets.len().min(self.room);
        let count = self.stream.read(&mut octets[..most]).map_err(in_words)?;
        self.room -= count;
        Ok(count)
    }
}

impl Write for Limited {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(octets).map_err(in_words)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A timeout of a socket is EAGAIN, whose text no reader would understand.
fn in_words(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { too_late() } else { error }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection is open, and no whole answer came in time")
}
