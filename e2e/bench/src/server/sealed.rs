//! Requests with Network Time Security, without NTS code in this crate: records the requests of chronyd as a client, to
//! send them again. An NTS server keeps no state per client, so it answers each repeated request with the full work.
//! Returns a file for `bench load --replay`.
use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{anyhow, bail};
use xtask::process;

use super::{
    contestant,
    keys::{CERTIFICATE, keys},
};
use crate::load::lane::Lane;

/// Requests for the server on `port`, whose key exchange is on `exchange`.
pub(crate) fn requests(lane: &Lane, port: u16, exchange: u16) -> anyhow::Result<PathBuf> {
    let folder = contestant::folder(&format!("client-{port}"))?;
    let here = folder.display();
    let text = format!(
        "server localhost port {port} nts ntsport {exchange} iburst\nnosystemcert\nntstrustedcerts {}/{CERTIFICATE}\n\
         cmdport 0\nbindcmdaddress /\npidfile {here}/pid\n",
        keys().display()
    );
    fs::write(folder.join("chrony.conf"), text)?;
    // It measures, prints, and ends; -x, and that it may not, keep it from setting the clock.
    let client = format!(
        "{} setpriv --bounding-set -sys_time --inh-caps -sys_time \
         /usr/sbin/chronyd -x -Q -t {SECONDS} -4 -u root -f {here}/chrony.conf",
        lane.at_server()
    );
    for _ in 0..3 {
        let text = thread::scope(|scope| {
            let record = format!("record --port {port} --seconds {}", SECONDS + 1);
            let recorder = scope.spawn(move || contestant::own(&lane.at_server(), "", &record));
            thread::sleep(Duration::from_millis(500));
            let mut words = client.split_whitespace();
            // It ends with an error if it has not measured enough, which is no matter here.
            let _ = process::output(Command::new(words.next().unwrap_or_default()).args(words))?;
            recorder.join().map_err(|_| anyhow!("the recorder's thread panicked"))?
        })?;
        // At the start a server may not have its keys yet.
        if !text.is_empty() {
            let file = folder.join("requests");
            fs::write(&file, text)?;
            return Ok(file);
        }
    }
    bail!("chronyd asked nothing of the NTS server on ports {port} and {exchange}")
}

/// How long chronyd asks.
const SECONDS: u32 = 5;
