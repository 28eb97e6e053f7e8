//! Measures the error of the transmit time in a server's replies: `bench capture`, at the server's end of a lane,
//! compares it with the kernel's timestamp of the frame. Prints one line of JSON ([`Deviation`]). `bench record` prints
//! the clients' requests instead, one per line in hexadecimal digits.
use std::{
    collections::HashSet,
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    cmsg_space,
    errno::Errno,
    sys::{
        socket::{
            self, AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
            setsockopt, sockopt,
        },
        time::{TimeSpec, TimeVal},
    },
};
use serde::{Deserialize, Serialize};

use super::frame;

/// Command line of either.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The server's port.
    #[arg(long)]
    port: u16,
    /// Seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// How far the transmit time in a reply is from the kernel's stamp of it, before or after, microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Deviation {
    /// Replies that were looked at.
    pub(crate) replies: usize,
    /// Half of them are farther off.
    pub(crate) median: f64,
    /// One in a hundred is farther off.
    pub(crate) p99: f64,
}

/// Captures, and prints what it found.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let socket = open()?;
    let mut errors = Vec::new();
    let (begun, span) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    while begun.elapsed() < span {
        let mut buffer = [0; 2048];
        let Some((length, stamp)) = receive(&socket, &mut buffer)? else { continue };
        if let Some(transmit) = frame::transmitted(&buffer[..length], options.port) {
            errors.push((stamp - transmit).abs());
        }
    }
    ensure!(!errors.is_empty(), "no reply of port {} went by", options.port);
    errors.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "microseconds")]
    let part = |of: usize| errors[(errors.len() - 1) * of / 100] as f64 / 1e3;
    println!(
        "{}",
        serde_json::to_string(&Deviation { replies: errors.len(), median: part(50), p99: part(99) })?
    );
    Ok(())
}

/// Prints each request that goes by.
pub(crate) fn record(options: &Options) -> anyhow::Result<()> {
    let socket = open()?;
    let (begun, span) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let mut seen = HashSet::new();
    while begun.elapsed() < span {
        let mut buffer = [0; 2048];
        let Some((length, _)) = receive(&socket, &mut buffer)? else { continue };
        // On loopback each goes by twice: out, and in.
        if let Some(request) = frame::request(&buffer[..length], options.port)
            && seen.insert(request.to_vec())
        {
            println!("{}", hex::encode(request));
        }
    }
    Ok(())
}

fn open() -> anyhow::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::Packet, SockType::Raw);
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("a capture needs root")?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    Ok(socket)
}

/// Length and stamp of the next frame, Unix nanoseconds; none if there is none for a while.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> anyhow::Result<Option<(usize, i64)>> {
    let mut control = cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let came = match socket::recvmsg::<LinkAddr>(fd, &mut slices, Some(&mut control), MsgFlags::empty()) {
        Ok(came) => came,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(error) => return Err(error).context("cannot receive"),
    };
    let stamp = came.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    let stamp = stamp.context("a frame came without a stamp")?;
    Ok(Some((came.bytes, stamp.tv_sec() * 1_000_000_000 + stamp.tv_nsec())))
}
