//! UDP sockets that report when a datagram came and to which local address, and if wanted when one left.
//!
//! Each datagram takes one system call, out or in. Sockets are created without flag bits, and read by one `recvmsg`
//! with one buffer and a large control buffer, so that a simulator can replace libc.
pub(crate) mod address;
mod control;

mod socket;

mod batch;

pub use batch::{Inbox, Outbox};
pub use socket::{Departure, Received, UdpSocket, any_address};

#[cfg(test)]
mod tests;
