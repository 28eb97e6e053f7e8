//! Debian's chronyd as an upstream: a configuration file goes in, a process and its reference clock come out.
use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Folder, Process, free_udp_port, harmless};

/// Debian's chronyd as a server whose clock is the system's. It has that from a reference clock, so that whoever follows
/// it knows true time.
pub(crate) struct Chronyd {
    pub(crate) port: u16,
    file: PathBuf,
    process: Option<Process>,
    _reference: ReferenceClock,
}

impl Chronyd {
    pub(crate) fn start(folder: &Folder, stratum: u8) -> Self {
        Self::start_with(folder, stratum, "")
    }

    /// The same, with more lines in its file.
    pub(crate) fn start_with(folder: &Folder, stratum: u8, lines: &str) -> Self {
        let (port, path) = (free_udp_port(), folder.path().join("chrony.conf"));
        let text = format!(
            "port {port}\ncmdport 0\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\npidfile {}\n\
             refclock SOCK {} refid GPS stratum {} poll -2 filter 1 delay 1e-4\n{lines}",
            folder.path().join("chronyd.pid").display(),
            folder.path().join("reference").display(),
            stratum - 1,
        );
        fs::write(&path, text).unwrap();
        let reference = ReferenceClock::start(folder.path().join("reference"));
        let mut server = Self { port, file: path, process: None, _reference: reference };
        server.restart();
        server
    }

    /// Starts it anew: what it had in memory is gone.
    pub(crate) fn restart(&mut self) {
        // First the old one ends, which has the port.
        self.process = None;
        let child = harmless("/usr/sbin/chronyd")
            .args(["-x", "-U", "-u", "root", "-d", "-f"])
            .arg(&self.file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need Debian's package chrony");
        self.process = Some(Process(child));
    }
}

/// Tells chronyd ten times a second that the system's clock is right, in the form of its driver SOCK.
struct ReferenceClock {
    ended: Arc<AtomicBool>,
}

impl ReferenceClock {
    fn start(socket: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        thread::spawn(move || {
            let sender = UnixDatagram::unbound().unwrap();
            while !seen.load(Ordering::Relaxed) {
                // Until chronyd is there, and after it has gone, nobody takes it.
                let _ = sender.send_to(&right_now(), &socket);
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { ended }
    }
}

impl Drop for ReferenceClock {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// A sample: the time (timeval), offset 0 (double), no pulse, no leap second, padding, and the magic number.
fn right_now() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (seconds, micros) = (now.as_secs(), u64::from(now.subsec_micros()));
    let ints = [0, 0, 0, 0x534f_434b_i32];
    let longs = [seconds, micros, 0.0_f64.to_bits()];
    longs
        .iter()
        .flat_map(|long| long.to_ne_bytes())
        .chain(ints.iter().flat_map(|i| i.to_ne_bytes()))
        .collect()
}
