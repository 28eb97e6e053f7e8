//! The upstream servers, in a namespace of their own: Debian's chronyd, which serves this machine's clock and never
//! sets it, and four servers whose time tests can change.
use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use xtask::{checkout, process};

use crate::{
    daemon::{self, Daemon},
    liar, network, wait,
};

/// chronyd.
pub const HONEST: &str = "172.30.0.201";
/// The key that it shares with its clients: the only line of its key file.
pub const KEY: &str = "1 AES128 HEX:0123456789abcdef0123456789abcdef";
/// The servers whose time can be changed.
pub const BENT: [&str; 4] = ["172.30.0.211", "172.30.0.212", "172.30.0.213", "172.30.0.214"];

/// The order that gives a server the right time again.
pub const HONESTLY: &str = "offset=0 ppm=0 stratum=1 leap=0 silent=0 dispersion=0.0001";

/// The order that gives a server the right time, except for these changes. An order changes only the values that it
/// names, so this one names all.
pub fn alone(words: &str) -> String {
    format!("{HONESTLY} {words}")
}

/// Makes the namespace and starts all servers.
pub fn up() -> anyhow::Result<()> {
    fs::create_dir_all(checkout::state().join("upstream"))?;
    let addresses: Vec<_> = [HONEST].into_iter().chain(BENT).collect();
    network::namespace(network::UPSTREAMS, &addresses)?;
    start_honest()?;
    for address in BENT {
        Daemon::new(&format!("ntp-{address}"), env::current_exe()?)
            .wrap(&network::inside(network::UPSTREAMS))
            .wrap(at_once())
            .args(&format!("{} --listen {address}:123 --control {}", liar::VERB, control(address).display()))
            .start()?;
    }
    wait::until("the upstream servers", "", Duration::from_secs(20), || {
        daemon::expect_running("chronyd")?;
        Ok(BENT.iter().all(|address| liar::order(&control(address), "").is_ok()).then_some(()))
    })
}

/// Starts chronyd.
pub(crate) fn start_honest() -> anyhow::Result<()> {
    let folder = checkout::state().join("upstream");
    let here = folder.display();
    let configuration = format!(
        "local stratum 1\nallow 172.30.0.0/24\nbindaddress {HONEST}\ncmdport 0\nbindcmdaddress {here}/chronyd.sock\n\
         pidfile {here}/chronyd.pid\nkeyfile {here}/chronyd.keys\n"
    );
    fs::write(folder.join("chronyd.keys"), format!("{KEY}\n"))?;
    fs::write(folder.join("chronyd.conf"), configuration)?;
    Daemon::new("chronyd", "chronyd")
        .wrap(&network::inside(network::UPSTREAMS))
        .wrap(at_once())
        .args(&format!("-x -d -u root -f {here}/chronyd.conf"))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .start()?;
    Ok(())
}

/// Ends chronyd.
pub fn stop_honest() -> anyhow::Result<()> {
    daemon::end("chronyd", "-TERM")
}

/// Changes all four servers in the same way: `offset=0.1`, `ppm=80`, `silent=1` and so on. Returns their offset in
/// nanoseconds.
pub fn bend_all(words: &str) -> anyhow::Result<i64> {
    let mut offset = 0;
    for number in 0..BENT.len() {
        offset = bend(number, words)?;
    }
    Ok(offset)
}

/// Changes one server, 0 to 3.
pub fn bend(number: usize, words: &str) -> anyhow::Result<i64> {
    liar::order(&control(BENT[number]), words)
}

fn control(address: &str) -> PathBuf {
    checkout::state().join("upstream").join(format!("{address}.sock"))
}

/// The command prefix that gives a program the highest priority, if the host allows that. A server that waits for a
/// busy core timestamps its packets late, so its clients would get a wrong time.
pub fn at_once() -> &'static str {
    if process::output(Command::new("chrt").args(["--rr", "10", "true"]))
        .is_ok_and(|output| output.status.success())
    {
        "chrt --rr 10"
    } else {
        "nice -n -15"
    }
}
