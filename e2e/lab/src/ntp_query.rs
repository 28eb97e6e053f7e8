//! Sends one NTP request, as a client of an agent would, and reads the reply. It does not use the agent's packet code,
//! on purpose: a fault there must not hide itself.
use std::{net::UdpSocket, time::Duration};

use anyhow::bail;

/// What a reply says.
#[derive(Debug)]
pub struct Reply {
    /// 3: not synchronised.
    pub leap: u8,
    /// 0 on the wire while not synchronised.
    pub stratum: u8,
    /// IPv4 address of the server's own reference.
    pub reference: [u8; 4],
    /// Root dispersion, seconds.
    pub root_dispersion: f64,
}

/// Asks up to three times; an error if there is no answer.
pub fn ask(server: &str) -> anyhow::Result<Reply> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect((server, 123))?;
    for attempt in 0..3_u8 {
        let mut request = [0; 48];
        request[0] = 4 << 3 | 3; // version 4, client (RFC 5905 §7.3)
        request[40..48].copy_from_slice(&[attempt + 1; 8]);
        socket.send(&request)?;
        let mut reply = [0; 128];
        let Ok(length) = socket.recv(&mut reply) else { continue };
        if length < 48 || reply[0] & 7 != 4 || reply[24..32] != request[40..48] {
            bail!("{server} sent something else: {:?}", &reply[..length]);
        }
        let fixed = u32::from_be_bytes([reply[8], reply[9], reply[10], reply[11]]);
        return Ok(Reply {
            leap: reply[0] >> 6,
            stratum: reply[1],
            reference: [reply[12], reply[13], reply[14], reply[15]],
            root_dispersion: f64::from(fixed) / 65536.0,
        });
    }
    bail!("{server} does not answer")
}
