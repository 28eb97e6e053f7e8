//! Settings of lines of an ntp.conf that change the meaning of other lines, from a scan of all lines.
use std::collections::BTreeMap;

use crate::lines::{self, Line};

/// Settings of lines that change the meaning of other lines.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    /// Hosts of `server`, `pool` and `peer` lines.
    pub(super) hosts: Vec<&'a str>,
    /// The stratum that a `fudge` line gives a clock.
    pub(super) strata: BTreeMap<&'a str, &'a str>,
    /// The file that `keys` names.
    pub(super) keys: Option<&'a str>,
    /// True if a line uses a key.
    pub(super) uses_keys: bool,
    /// True if a line makes the server serve the node's own clock.
    pub(super) serves_local: bool,
    /// True if a line makes ntpd follow or ignore that clock; such a line is not in the result.
    pub(super) follows_local: bool,
    /// True if a line uses Autokey.
    pub(super) uses_autokey: bool,
    /// True if a `tos` line sets the stratum of an orphan.
    pub(super) elects_orphans: bool,
    pub(super) nts_ca: Option<&'a str>,
    /// The certificate of the NTS server.
    pub(super) nts_certificate: Option<&'a str>,
    /// The private key of the NTS server.
    pub(super) nts_private_key: Option<&'a str>,
    /// True if there is an NTS server.
    pub(super) nts_served: bool,
}

impl<'a> Facts<'a> {
    /// Looks over all lines.
    pub(super) fn of(lines: &[Line<'a>]) -> Self {
        let mut facts = Self::default();
        for line in lines {
            let after = |word: &str| {
                let at = line.words.iter().position(|each| *each == word)?;
                line.words.get(at + 1).copied()
            };
            match line.directive {
                "fudge" => {
                    let said = line.words.first().zip(after("stratum"));
                    facts.strata.extend(said.map(|(clock, stratum)| (*clock, stratum)));
                }
                "keys" => facts.keys = line.words.first().copied(),
                "refclock" => facts.serves_local |= line.words.first() == Some(&"local"),
                "tos" => facts.elects_orphans |= after("orphan").is_some_and(|stratum| stratum != "16"),
                "trustedkey" => facts.uses_keys = true,
                "server" | "pool" | "peer" => {
                    facts.hosts.extend(line.words.iter().find(|word| !["-4", "-6"].contains(word)));
                    facts.uses_keys |= after("key").is_some();
                    facts.uses_autokey |= line.words.contains(&"autokey");
                    let is_local = line.words.iter().any(|word| word.starts_with(LOCAL_CLOCK));
                    let follows = ["prefer", "true", "noselect"].iter().any(|word| line.words.contains(word));
                    facts.serves_local |= is_local && !follows;
                    facts.follows_local |= is_local && follows;
                }
                "broadcast" | "autokey" => facts.uses_autokey |= line.words.contains(&"autokey"),
                "nts" => {
                    facts.nts_ca = after("ca").or(facts.nts_ca);
                    facts.nts_certificate = after("cert").or(facts.nts_certificate);
                    facts.nts_private_key = after("key").or(facts.nts_private_key);
                    facts.nts_served |= line.words.contains(&"enable");
                }
                _ => {}
            }
        }
        facts.serves_local |= facts.elects_orphans;
        facts
    }

    /// What the file of a key must contain.
    pub(super) fn key_line(&self, id: u32) -> String {
        format!("key {id} of {}", self.keys.map_or("the keys file".into(), lines::printable))
    }
}

/// What the local clock driver's addresses begin with.
pub(super) const LOCAL_CLOCK: &str = "127.127.1.";
