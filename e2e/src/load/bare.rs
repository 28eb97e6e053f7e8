//! The least that a server of UDP can do: a loop of recvmmsg and sendmmsg, 64 at once, that answers each datagram with
//! 48 octets and looks at nothing but the number to bring back. What NTP servers are measured against.
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
}

const BATCH: usize = 64;

/// Answers until it is ended.
pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, options.port))?;
    // As much as the agent asks for.
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).context("the receive buffer needs root")?;
    let mut requests = Box::new([[0_u8; 128]; BATCH]);
    let mut reply = [0_u8; 48];
    reply[0] = 4 << 3 | 4;
    reply[1] = 1;
    reply[40] = 1;
    let mut replies = Box::new([reply; BATCH]);
    let mut incoming = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut outgoing = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        let mut clients = [None; BATCH];
        let mut buffers: [[IoSliceMut<'_>; 1]; BATCH] =
            requests.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let came = match socket::recvmmsg(socket.as_raw_fd(), &mut incoming, &mut buffers, flags, None) {
            Ok(came) => came,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let mut count = 0;
        for (client, message) in clients.iter_mut().zip(came) {
            *client = message.address;
            count += 1;
        }
        for (reply, request) in replies.iter_mut().zip(requests.iter()).take(count) {
            reply[24..32].copy_from_slice(&request[40..48]);
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
