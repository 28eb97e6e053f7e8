//! The smallest possible UDP server: a loop of recvmmsg and sendmmsg, 64 datagrams per call. It answers each datagram,
//! or one in `one_in`, with 48 octets, and reads only the number that the answer returns. NTP servers are compared with
//! it.
use std::{
    array,
    io::{IoSlice, IoSliceMut},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
};

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::socket::{self, MsgFlags, MultiHeaders, SockaddrIn, setsockopt, sockopt},
};

/// Command line of the loop.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Port to answer on.
    #[arg(long)]
    port: u16,
    /// Answer one in this many requests.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    one_in: u8,
}

const BATCH: usize = 64;

/// Answers until the process is ended.
pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, options.port))?;
    // The same size as the agent's.
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).context("the receive buffer needs root")?;
    let mut requests = Box::new([[0_u8; 128]; BATCH]);
    let mut reply = [0_u8; 48];
    reply[0] = 4 << 3 | 4;
    reply[1] = 1;
    reply[40] = 1;
    let mut replies = Box::new([reply; BATCH]);
    let mut incoming = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut outgoing = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut turn = 0;
    loop {
        let (mut clients, mut answered) = ([None; BATCH], [0; BATCH]);
        let mut buffers: [[IoSliceMut<'_>; 1]; BATCH] =
            requests.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let came = match socket::recvmmsg(socket.as_raw_fd(), &mut incoming, &mut buffers, flags, None) {
            Ok(came) => came,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let mut count = 0;
        for (place, message) in came.enumerate() {
            turn = (turn + 1) % options.one_in;
            if turn == 0 {
                clients[count] = message.address;
                answered[count] = place;
                count += 1;
            }
        }
        for (reply, &place) in replies.iter_mut().zip(&answered[..count]) {
            reply[24..32].copy_from_slice(&requests[place][40..48]);
        }
        if count == 0 {
            continue;
        }
        let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|place| [IoSlice::new(&replies[place])]);
        // A reply that cannot be sent is lost, as with every server.
        let _ = socket::sendmmsg(
            socket.as_raw_fd(),
            &mut outgoing,
            &slices[..count],
            &clients[..count],
            [],
            MsgFlags::empty(),
        );
    }
}
