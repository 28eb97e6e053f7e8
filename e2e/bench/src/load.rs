//! The load generator: `bench load`, in the clients' namespace, sends requests from many addresses to a server, as fast
//! as possible or at a given rate, and counts the answers. Prints one line of JSON ([`Tally`]).
use std::{
    array, fs,
    io::{IoSlice, IoSliceMut},
    net::{Ipv4Addr, UdpSocket},
    ops::Range,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    errno::Errno,
    ifaddrs,
    sys::socket::{
        self, AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn,
        setsockopt, sockopt,
    },
};
use serde::{Deserialize, Serialize};

pub(crate) mod bare;
pub(crate) mod capture;
pub(crate) mod frame;
pub(crate) mod lane;

use frame::{Came, Way};

/// Command line of the generator.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The server's port.
    #[arg(long)]
    port: u16,
    /// The number of addresses that send requests, in turn.
    #[arg(long, default_value_t = 1000)]
    addresses: u32,
    /// Requests per second; 0 for as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Send these recorded requests repeatedly and unchanged: one per line in hexadecimal digits, as `bench record`
    /// prints them.
    #[arg(long)]
    replay: Option<PathBuf>,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Requests sent.
    pub(crate) sent: u64,
    /// Answers that contain the number of a request.
    pub(crate) answered: u64,
    /// Kiss-o'-death packets.
    pub(crate) kisses: u64,
    /// Anything else.
    pub(crate) wrong: u64,
}

/// Frames that are sent at once, and datagrams that are received at once.
const BATCH: usize = 64;

/// The port of all clients.
const CLIENT_PORT: u16 = 40_000;

/// The time after the last request in which the server can empty its queue.
const DRAIN: Duration = Duration::from_millis(300);

/// Sends the load, and prints the tally.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!((1..=1_000_000).contains(&options.addresses), "1 to 1000000 addresses");
    let recorded = options.replay.as_deref().map(recorded).transpose()?.unwrap_or_default();
    let mut sender = Sender::open(options, &recorded)?;
    let mut receiver =
        Receiver::open(recorded.iter().filter_map(|request| frame::number(request)).collect())?;
    let begun = Instant::now();
    let span = Duration::from_secs_f64(options.seconds);
    while begun.elapsed() < span {
        if options.rate == 0 || sender.due(options.rate, begun) {
            sender.send()?;
        } else {
            thread::sleep(Duration::from_micros(50));
        }
        receiver.receive(sender.first..sender.next)?;
    }
    let last = Instant::now();
    while last.elapsed() < DRAIN {
        receiver.receive(sender.first..sender.next)?;
        thread::sleep(Duration::from_micros(200));
    }
    println!("{}", serde_json::to_string(&Tally { sent: sender.next - sender.first, ..receiver.tally })?);
    Ok(())
}

/// Requests that were recorded. A server that keeps no state per client answers them as if they were new.
fn recorded(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let requests = text.lines().map(hex::decode).collect::<Result<Vec<_>, _>>().ok();
    requests.filter(|requests| !requests.is_empty()).context("these are no requests")
}

/// Sends frames from all addresses in turn.
struct Sender {
    socket: OwnedFd,
    frames: [Vec<u8>; BATCH],
    /// True if each request has its own number, false for recorded requests.
    numbered: bool,
    headers: MultiHeaders<LinkAddr>,
    addresses: u32,
    /// The number of the next request, and of the first one. No two runs use the same numbers.
    next: u64,
    first: u64,
}

impl Sender {
    fn open(options: &Options, recorded: &[Vec<u8>]) -> anyhow::Result<Self> {
        let wire = ifaddrs::getifaddrs()?
            .filter(|entry| entry.interface_name == lane::WIRE)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .context("no wire here: this is started in a lane's namespace")?;
        // No protocol: it only sends.
        let socket = socket::socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None::<SockProtocol>,
        )?;
        socket::bind(socket.as_raw_fd(), &wire).context("cannot use the wire")?;
        let first = u64::from(process::id()) << 32;
        let way = Way {
            from_mac: lane::CLIENT_MAC,
            to_mac: lane::SERVER_MAC,
            to: lane::SERVER,
            to_port: options.port,
            from_port: CLIENT_PORT,
        };
        Ok(Self {
            socket,
            frames: array::from_fn(|place| match recorded {
                [] => frame::template(&way, &frame::plain()),
                some => frame::template(&way, &some[place % some.len()]),
            }),
            numbered: recorded.is_empty(),
            headers: MultiHeaders::preallocate(BATCH, None),
            addresses: options.addresses,
            next: first,
            first,
        })
    }

    /// Returns true if the next batch is due.
    fn due(&self, rate: u32, begun: Instant) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "counts of some minutes")]
        let sent = (self.next - self.first) as f64;
        sent <= begun.elapsed().as_secs_f64() * f64::from(rate)
    }

    fn send(&mut self) -> anyhow::Result<()> {
        for (number, frame) in (self.next..).zip(self.frames.iter_mut()) {
            let place = u32::try_from(number % u64::from(self.addresses)).expect("less than a u32");
            frame::fill_source(frame, Ipv4Addr::from_bits(lane::CLIENTS.to_bits() + place));
            if self.numbered {
                frame::fill_number(frame, number);
            }
        }
        let frames: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|place| [IoSlice::new(&self.frames[place])]);
        let sent = socket::sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            &frames,
            [None; BATCH],
            [],
            MsgFlags::empty(),
        );
        match sent {
            // Requests that the kernel did not accept are sent again in the next batch, with the same numbers.
            Ok(sent) => self.next += sent.count() as u64,
            Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
            Err(error) => return Err(error).context("cannot send"),
        }
        Ok(())
    }
}

/// Receives for all addresses.
struct Receiver {
    socket: UdpSocket,
    buffers: Box<[[u8; 1500]; BATCH]>,
    /// The numbers of the recorded requests; empty if each request has its own number.
    recorded: Vec<u64>,
    headers: MultiHeaders<SockaddrIn>,
    tally: Tally,
}

impl Receiver {
    fn open(recorded: Vec<u64>) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        // If answers were lost here, the cost per answer would seem too high.
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).context("the receive buffer needs root")?;
        Ok(Self {
            socket,
            buffers: Box::new([[0; 1500]; BATCH]),
            recorded,
            headers: MultiHeaders::preallocate(BATCH, None),
            tally: Tally::default(),
        })
    }

    /// Counts all answers that have arrived. `sent` are the numbers of the requests that were sent.
    fn receive(&mut self, sent: Range<u64>) -> anyhow::Result<()> {
        loop {
            let mut buffers: Vec<_> =
                self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let came = match socket::recvmmsg(
                self.socket.as_raw_fd(),
                &mut self.headers,
                &mut buffers,
                MsgFlags::MSG_DONTWAIT,
                None,
            ) {
                Ok(came) => came.map(|message| message.bytes).collect::<Vec<_>>(),
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(error) => return Err(error).context("cannot receive"),
            };
            for (buffer, &length) in self.buffers.iter().zip(&came) {
                let ours = |number| match self.recorded.as_slice() {
                    [] => sent.contains(&number),
                    some => some.contains(&number),
                };
                match frame::read(&buffer[..length], !self.recorded.is_empty()) {
                    Came::Answer(number) if ours(number) => self.tally.answered += 1,
                    Came::Kiss => self.tally.kisses += 1,
                    Came::Answer(_) | Came::Wrong => self.tally.wrong += 1,
                }
            }
            if came.len() < BATCH {
                return Ok(());
            }
        }
    }
}
