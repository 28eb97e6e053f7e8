//! An NTP server that serves any desired time. There is one process per address, which a Unix socket controls while it
//! runs. It serves the host's clock plus an offset that grows by some ppm, with the desired stratum, leap indicator and
//! root dispersion. It can also be silent.
use std::{
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, bail};

use crate::truth;

/// The subcommand that calls [`serve`]. Each program that starts such servers must have it.
pub const VERB: &str = "serve-ntp";

/// Command line of the server.
#[derive(clap::Args)]
pub struct Options {
    /// Address and port to serve on.
    #[arg(long)]
    listen: String,
    /// The Unix socket that receives orders.
    #[arg(long)]
    control: PathBuf,
}

/// The values that the server puts into its replies.
#[derive(Clone, Debug)]
struct Story {
    /// The served time minus the host's clock at `since`, nanoseconds.
    offset: i64,
    /// The rate at which the offset grows from then on, parts per billion.
    ppb: i64,
    since: i64,
    stratum: u8,
    leap: u8,
    silent: bool,
    /// Root dispersion, seconds times 2^16 (RFC 5905 §6, NTP short format).
    dispersion: u32,
}

impl Story {
    /// Served time minus true time.
    fn offset_at(&self, now: i64) -> i64 {
        self.offset
            + i64::try_from(i128::from(now - self.since) * i128::from(self.ppb) / 1_000_000_000).unwrap_or(0)
    }

    /// `key=value` words: offset (s), ppm, stratum, leap, silent (0, 1), dispersion (s).
    fn obey(&mut self, order: &str, now: i64) -> anyhow::Result<()> {
        // Keeps the offset that has accumulated: only an order for the offset makes the served time jump.
        self.offset = self.offset_at(now);
        self.since = now;
        for word in order.split_whitespace() {
            let (key, value) = word.split_once('=').with_context(|| format!("{word} is not key=value"))?;
            let number: f64 = value.parse().with_context(|| format!("{word} has no number"))?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "orders are our own")]
            match key {
                "offset" => self.offset = (number * 1e9).round() as i64,
                "ppm" => self.ppb = (number * 1e3).round() as i64,
                "stratum" => self.stratum = number as u8,
                "leap" => self.leap = number as u8,
                "silent" => self.silent = number != 0.0,
                "dispersion" => self.dispersion = (number * 65536.0) as u32,
                _ => bail!("{key} is no order"),
            }
        }
        Ok(())
    }
}

/// Serves until it is ended.
pub fn serve(options: &Options) -> anyhow::Result<()> {
    let now = truth::nanoseconds()?;
    let story = Story {
        offset: 0,
        ppb: 0,
        since: now,
        stratum: 1,
        leap: 0,
        silent: false,
        dispersion: 66, /* 1 ms */
    };
    let story = Arc::new(Mutex::new(story));
    let listener = UnixListener::bind(&options.control).context("the control socket")?;
    let shared = Arc::clone(&story);
    thread::spawn(move || listen(&listener, &shared));
    let socket =
        UdpSocket::bind(&options.listen).with_context(|| format!("cannot listen on {}", options.listen))?;
    let mut request = [0; 1024];
    loop {
        let (length, client) = socket.recv_from(&mut request)?;
        let received = truth::nanoseconds()?;
        let story = story.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Mode 3 is a client (RFC 5905 §7.3).
        if length < 48 || request[0] & 7 != 3 || story.silent {
            continue;
        }
        let mut reply = answer(&story, &request, received);
        let now = truth::nanoseconds()?;
        reply[40..48].copy_from_slice(&timestamp(now + story.offset_at(now)));
        // If the client is gone, the reply is lost, which is no error of the server.
        let _ = socket.send_to(&reply, client);
    }
}

/// The reply without its transmit time.
fn answer(story: &Story, request: &[u8], received: i64) -> [u8; 48] {
    let mut reply = [0; 48];
    reply[0] = story.leap << 6 | request[0] & 0x38 | 4;
    reply[1] = story.stratum;
    reply[2] = request[2];
    reply[3] = 0xEC; // precision 2^-20 s
    reply[8..12].copy_from_slice(&story.dispersion.to_be_bytes());
    reply[12..16].copy_from_slice(if story.stratum < 2 { b"BENT" } else { &[192, 0, 2, 1] });
    let served = received + story.offset_at(received);
    reply[16..24].copy_from_slice(&timestamp(served - served.rem_euclid(1_000_000_000)));
    reply[24..32].copy_from_slice(&request[40..48]);
    reply[32..40].copy_from_slice(&timestamp(served));
    reply
}

/// NTP's 32.32 fixed point since 1900, modulo an era (RFC 5905 §6).
fn timestamp(unix_nanoseconds: i64) -> [u8; 8] {
    let seconds = unix_nanoseconds.div_euclid(1_000_000_000) + 2_208_988_800;
    let fraction = (unix_nanoseconds.rem_euclid(1_000_000_000) << 32) / 1_000_000_000;
    ((seconds << 32) | fraction).to_be_bytes()
}

fn listen(listener: &UnixListener, story: &Mutex<Story>) {
    for stream in listener.incoming().flatten() {
        let answer =
            obey(&stream, story).map_or_else(|error| format!("{error:#}\n"), |now| format!("ok {now}\n"));
        let mut writer = &stream;
        let _ = writer.write_all(answer.as_bytes());
    }
}

/// Executes one order. Returns the offset after it.
fn obey(stream: &UnixStream, story: &Mutex<Story>) -> anyhow::Result<i64> {
    let mut order = String::new();
    BufReader::new(stream).read_line(&mut order)?;
    let mut story = story.lock().unwrap_or_else(PoisonError::into_inner);
    let now = truth::nanoseconds()?;
    story.obey(&order, now)?;
    Ok(story.offset_at(now))
}

/// Gives a running server an order. Returns served time minus true time at that moment, in nanoseconds. An empty order
/// changes nothing.
pub(crate) fn order(control: &Path, words: &str) -> anyhow::Result<i64> {
    let mut stream =
        UnixStream::connect(control).with_context(|| format!("no server at {}", control.display()))?;
    stream.write_all(format!("{words}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim().strip_prefix("ok ") {
        Some(offset) => Ok(offset.parse()?),
        None => bail!("the server refuses {words}: {}", answer.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream;

    fn story() -> Story {
        Story { offset: 0, ppb: 0, since: 0, stratum: 1, leap: 0, silent: false, dispersion: 0 }
    }

    #[test]
    fn a_change_of_pace_makes_no_jump() {
        let mut story = story();
        story.obey("offset=0.1 ppm=80", 0).unwrap();
        assert_eq!(story.offset_at(10_000_000_000), 100_000_000 + 800_000);
        story.obey("ppm=0", 10_000_000_000).unwrap();
        assert_eq!(story.offset_at(99_000_000_000), 100_800_000);
        story.obey("offset=-2", 99_000_000_000).unwrap();
        assert_eq!(story.offset_at(99_000_000_000), -2_000_000_000);
    }

    #[test]
    fn a_server_that_is_bent_alone_keeps_nothing_of_earlier_orders() {
        let mut story = story();
        story.obey("offset=-2 ppm=80 stratum=3 leap=2 silent=1 dispersion=1", 0).unwrap();
        story.obey(&upstream::alone("offset=0.1 leap=1"), 10_000_000_000).unwrap();
        // 100 s at 80 ppm would be 8 ms.
        assert_eq!(story.offset_at(110_000_000_000), 100_000_000);
        let Story { stratum, leap, silent, dispersion, .. } = story;
        assert_eq!((stratum, leap, silent, dispersion), (1, 1, false, 6));
    }

    #[test]
    fn a_wrong_order_is_refused() {
        assert!(story().obey("colour=3", 0).is_err());
        assert!(story().obey("offset", 0).is_err());
    }

    #[test]
    fn timestamps_are_those_of_the_rfc() {
        // RFC 5905 figure 4: 1 January 1970 is 2,208,988,800.
        assert_eq!(timestamp(0), 2_208_988_800_u64.checked_shl(32).unwrap().to_be_bytes());
        assert_eq!(timestamp(500_000_000)[4..], [0x80, 0, 0, 0]);
    }
}
