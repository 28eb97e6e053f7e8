//! Settings of lines of a chrony.conf that change the meaning of other lines, from a scan of all lines.
use profile::ranges::NTP_PORT;

use crate::lines::{self, Line};

/// Settings of lines that change the meaning of other lines.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) keys: Option<&'a str>,
    /// Hosts of `server`, `pool` and `peer` lines.
    pub(super) hosts: Vec<&'a str>,
    /// Each upstream has a key or NTS.
    pub(super) all_prove: bool,
    /// True if a line says when the clock is stepped.
    pub(super) steps: bool,
    /// True if a line makes the server serve the node's own clock.
    pub(super) serves_local: bool,
    /// The port of chronyd's server; none: it has none.
    pub(super) port: Option<u16>,
    /// True if an upstream has a key.
    pub(super) uses_keys: bool,
    /// True if an address may send requests.
    pub(super) serves: bool,
    /// The first file of certificates to trust, and its line.
    pub(super) trusted: Option<(usize, &'a str)>,
    /// True if the system's certificate authorities are not trusted.
    pub(super) no_system_certificates: bool,
    /// True if an upstream uses NTS.
    pub(super) uses_nts: bool,
    /// The certificate of the NTS server, and its line.
    pub(super) certificate: Option<(usize, &'a str)>,
    /// The private key of the NTS server.
    pub(super) private_key: Option<(usize, &'a str)>,
    /// The port of its key exchange.
    pub(super) nts_port: Option<u16>,
}

impl<'a> Facts<'a> {
    /// Looks over all lines.
    pub(super) fn of(lines: &[Line<'a>]) -> Self {
        let mut facts = Self { port: Some(NTP_PORT), all_prove: true, ..Self::default() };
        for line in lines {
            let last = line.words.last().map(|word| (line.number, *word));
            let has = |option: &str| line.words.iter().any(|word| word.eq_ignore_ascii_case(option));
            match line.directive.to_ascii_lowercase().as_str() {
                "keyfile" => facts.keys = line.words.first().copied(),
                "server" | "pool" | "peer" => {
                    facts.uses_keys |= has("key");
                    facts.uses_nts |= has("nts");
                    facts.all_prove &= has("key") || has("nts");
                    facts.hosts.extend(line.words.first());
                }
                "allow" => facts.serves = true,
                "makestep" => facts.steps = true,
                "local" => facts.serves_local = true,
                "port" => facts.port = last.and_then(|(_, port)| port.parse().ok()).filter(|port| *port > 0),
                "ntstrustedcerts" => facts.trusted = facts.trusted.or(last),
                "nosystemcert" => facts.no_system_certificates = true,
                "ntsservercert" => facts.certificate = facts.certificate.or(last),
                "ntsserverkey" => facts.private_key = facts.private_key.or(last),
                "ntsport" => facts.nts_port = last.and_then(|(_, port)| port.parse().ok()),
                _ => {}
            }
        }
        facts
    }

    /// What the file of a key must contain.
    pub(super) fn key_line(&self, id: u32) -> String {
        let path = lines::printable(self.keys.unwrap_or("the key file"));
        format!("the line of key {id} in {path}, copied without a change")
    }
}
