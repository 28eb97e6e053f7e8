//! Host names to addresses, by the system's resolver, which blocks: in a thread of its own beside the engine, or
//! in line when the engine runs alone.
use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::mpsc,
    thread,
};

use ntp::SourceId;
use tracing::debug;

/// A name that the engine asks for.
#[derive(Debug)]
pub(crate) struct Question {
    /// Which engine asked, for those that have been replaced in the meantime.
    pub(crate) epoch: u64,
    /// Whose name it is.
    pub(crate) source: SourceId,
    /// The name.
    pub(crate) host: String,
}

/// What the resolver said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// As in the question.
    pub(crate) epoch: u64,
    /// As in the question.
    pub(crate) source: SourceId,
    /// In the resolver's order; empty if the name does not resolve.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Starts the thread. Each answer is given to `reply`; the thread ends when the sender is dropped.
///
/// # Errors
/// When no thread can be made.
pub(crate) fn start(reply: impl Fn(Answer) + Send + 'static) -> io::Result<mpsc::Sender<Question>> {
    let (questions, asked) = mpsc::channel::<Question>();
    thread::Builder::new().name("resolve".to_owned()).stack_size(STACK).spawn(move || {
        for Question { epoch, source, host } in asked {
            let addresses = look_up(&host);
            reply(Answer { epoch, source, addresses });
        }
    })?;
    Ok(questions)
}

/// glibc's resolver keeps answers of up to 64 KiB on the stack, and its plug-ins want room beside them.
const STACK: usize = 512 * 1024;

/// The addresses of `host`, each once.
pub(crate) fn look_up(host: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    match (host, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|found| found.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses
        }
        Err(error) => {
            // The source's state says so to the user; here is the resolver's reason.
            debug!(host, %error, "Name does not resolve");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(look_up("192.0.2.1"), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(look_up("2001:db8::1"), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn answers_come_back_from_the_thread() {
        let (sender, answers) = mpsc::channel();
        let questions = start(move |answer| sender.send(answer).unwrap()).unwrap();
        questions.send(Question { epoch: 7, source: SourceId(3), host: "localhost".to_owned() }).unwrap();
        let answer = answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!((answer.epoch, answer.source), (7, SourceId(3)));
        assert!(!answer.addresses.is_empty() && answer.addresses.iter().all(IpAddr::is_loopback));
    }
}
