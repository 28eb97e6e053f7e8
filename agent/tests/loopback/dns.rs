//! A DNS server of a test's own, which knows some names and is silent about all others; it remembers every question.
//! Only within a namespace (`alone`): it takes port 53, and what the system has for /etc/resolv.conf.
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use crate::bench::Folder;

/// The server; its thread ends with the test's process.
pub(crate) struct Dns {
    zone: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    resolv_conf: PathBuf,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl Dns {
    /// Starts it at 127.0.0.1, where the system asks from now on.
    pub(crate) fn start(folder: &Folder) -> Self {
        let at = |name: &str| folder.path().join(name);
        fs::write(at("nsswitch.conf"), "hosts: files dns\n").unwrap();
        put_over(&at("nsswitch.conf"), Path::new("/etc/nsswitch.conf"));
        let resolv_conf = at("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
        put_over(&resolv_conf, Path::new("/etc/resolv.conf"));
        let dns = Self { zone: Arc::default(), asked: Arc::default(), resolv_conf };
        let (zone, asked) = (Arc::clone(&dns.zone), Arc::clone(&dns.asked));
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let question = &buffer[..length];
                let (name, kind, end) = read(question);
                asked.lock().unwrap().push(name.clone());
                if let Some(addresses) = zone.lock().unwrap().get(&name) {
                    // Who asks may be gone already.
                    let _ = socket.send_to(&answer(question, kind, end, addresses), from);
                }
            }
        });
        dns
    }

    /// From now on a name has these addresses.
    pub(crate) fn knows(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.zone.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// How many questions there were about each name.
    pub(crate) fn asked(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.asked.lock().unwrap().iter().for_each(|name| *counts.entry(name.clone()).or_default() += 1);
        counts
    }

    /// Another /etc/resolv.conf.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(&self.resolv_conf, text).unwrap();
    }
}

fn put_over(file: &Path, place: &Path) {
    if !place.exists() {
        return;
    }
    let done = Command::new("mount").arg("--bind").args([file, place]).status().unwrap();
    assert!(done.success(), "{} is not put over {}", file.display(), place.display());
}

/// The name that is asked for, the type, and where the question ends (RFC 1035 section 4.1).
fn read(question: &[u8]) -> (String, u16, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    (labels.join("."), u16::from_be_bytes([question[at + 1], question[at + 2]]), at + 5)
}

fn answer(question: &[u8], kind: u16, end: usize, addresses: &[IpAddr]) -> Vec<u8> {
    let wanted = |address: &&IpAddr| if address.is_ipv4() { kind == A } else { kind == AAAA };
    let records: Vec<&IpAddr> = addresses.iter().filter(wanted).collect();
    let counts = [1, u16::try_from(records.len()).unwrap(), 0, 0].map(u16::to_be_bytes).concat();
    let mut answer = [&question[..2], &[0x81, 0x80], &counts[..], &question[12..end]].concat();
    for address in records {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let length = u16::try_from(octets.len()).unwrap();
        // The name is the question's; class IN, a time to live of 30 s.
        let fields = [0xc00c, kind, 1, 0, 30, length].map(u16::to_be_bytes).concat();
        answer.extend(fields.into_iter().chain(octets));
    }
    answer
}
