//! Every flag with every kind of datagram: compares the server with a table written by hand.
use std::net::{IpAddr, SocketAddr};

use super::{tests::good, *};
use crate::{RateVerdict, RestrictEntry, RestrictFlags};

/// The expected results under some flags. There is a line for each mode, 0 to 7. A line has a letter for each version,
/// 0 to 5, from port 40000, and then the same from port 123:
///
/// * answered: `A` in mode 4, `P` in mode 2, `K` with a kiss, `Q` as a query, `S` if the key is known, `N` if the
///   cookie is valid;
/// * not answered: `i` ignore, `n` noserve, `q` noquery, `t` unauthenticated, `v` version, `l` rate limited, `u`
///   unknown version, `m` a mode that is not a request, `f` malformed.
///
/// `signed` among the flags means datagrams with a MAC, `nts` datagrams with a field of NTS.
struct Table {
    flags: &'static str,
    /// The verdict of the rate limit, if it is used.
    rate: RateVerdict,
    lines: [&'static str; 8],
}

const TABLES: [Table; 17] = [
    Table {
        flags: "",
        rate: RateVerdict::Drop,
        lines: [
            "uAmmmu ummmmu",
            "uPPPPu uPPPPu",
            "ummmmu ummmmu",
            "uAAAAu uAAAAu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table { flags: "ignore", rate: RateVerdict::Pass, lines: ["iiiiii iiiiii"; 8] },
    Table {
        flags: "noserve",
        rate: RateVerdict::Pass,
        lines: [
            "unmmmu ummmmu",
            "unnnnu unnnnu",
            "ummmmu ummmmu",
            "unnnnu unnnnu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "noquery",
        rate: RateVerdict::Pass,
        lines: [
            "uAmmmu ummmmu",
            "uPPPPu uPPPPu",
            "ummmmu ummmmu",
            "uAAAAu uAAAAu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uqqqqu uqqqqu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "notrust",
        rate: RateVerdict::Pass,
        lines: [
            "utmmmu ummmmu",
            "uttttu uttttu",
            "ummmmu ummmmu",
            "uttttu uttttu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "notrust signed",
        rate: RateVerdict::Pass,
        lines: [
            "uSmmmu ummmmu",
            "uSSSSu uSSSSu",
            "ummmmu ummmmu",
            "uSSSSu uSSSSu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "notrust nts",
        rate: RateVerdict::Pass,
        lines: [
            // Before version 4 there are no extension fields, and in mode 1 there is no NTS.
            "ufmmmu ummmmu",
            "uffftu uffftu",
            "ummmmu ummmmu",
            "ufffNu ufffNu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    // Authentication does not bypass the other flags. A kiss has no MAC: it has no time.
    Table {
        flags: "version limited kod signed",
        rate: RateVerdict::Kiss,
        lines: [
            "uvmmmu ummmmu",
            "uvvvKu uvvvKu",
            "ummmmu ummmmu",
            "uvvvKu uvvvKu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "version",
        rate: RateVerdict::Pass,
        lines: [
            "uvmmmu ummmmu",
            "uvvvPu uvvvPu",
            "ummmmu ummmmu",
            "uvvvAu uvvvAu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            // ntpq uses version 2.
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "limited",
        rate: RateVerdict::Pass,
        lines: [
            "uAmmmu ummmmu",
            "uPPPPu uPPPPu",
            "ummmmu ummmmu",
            "uAAAAu uAAAAu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "limited",
        rate: RateVerdict::Kiss,
        lines: [
            "ulmmmu ummmmu",
            "ullllu ullllu",
            "ummmmu ummmmu",
            "ullllu ullllu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "limited kod",
        rate: RateVerdict::Kiss,
        lines: [
            "uKmmmu ummmmu",
            "uKKKKu uKKKKu",
            "ummmmu ummmmu",
            "uKKKKu uKKKKu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "limited kod",
        rate: RateVerdict::Drop,
        lines: [
            "ulmmmu ummmmu",
            "ullllu ullllu",
            "ummmmu ummmmu",
            "ullllu ullllu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    // `kod` without `limited` has no effect.
    Table {
        flags: "kod",
        rate: RateVerdict::Kiss,
        lines: [
            "uAmmmu ummmmu",
            "uPPPPu uPPPPu",
            "ummmmu ummmmu",
            "uAAAAu uAAAAu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    // The flags are for port 123. Another entry for the same network has no flags.
    Table {
        flags: "ntpport noserve noquery",
        rate: RateVerdict::Pass,
        lines: [
            "uAmmmu ummmmu",
            "uPPPPu unnnnu",
            "ummmmu ummmmu",
            "uAAAAu unnnnu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uqqqqu",
            "ummmmu ummmmu",
        ],
    },
    // With several flags the reason is the first of noserve, version, notrust, rate limit.
    Table {
        flags: "noserve version notrust limited",
        rate: RateVerdict::Drop,
        lines: [
            "unmmmu ummmmu",
            "unnnnu unnnnu",
            "ummmmu ummmmu",
            "unnnnu unnnnu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
    Table {
        flags: "version notrust limited",
        rate: RateVerdict::Drop,
        lines: [
            "uvmmmu ummmmu",
            "uvvvtu uvvvtu",
            "ummmmu ummmmu",
            "uvvvtu uvvvtu",
            "ummmmu ummmmu",
            "ummmmu ummmmu",
            "uQQQQu uQQQQu",
            "ummmmu ummmmu",
        ],
    },
];

#[test]
fn every_flag_against_every_datagram() {
    for Table { flags, rate, lines } in &TABLES {
        let field = [&[0x02, 0x04, 0, 28][..], &[0; 24]].concat();
        let (flags, more) = match (flags.strip_suffix("signed"), flags.strip_suffix("nts")) {
            (Some(flags), _) => (flags, &[9; 20][..]),
            (None, Some(flags)) => (flags, &field[..]),
            (None, None) => (*flags, &[][..]),
        };
        let rules = rules(flags);
        for (mode, line) in (0..).zip(lines) {
            let (clients, daemons) = line.split_once(' ').unwrap();
            for (port, letters) in [(40_000, clients), (123, daemons)] {
                for (version, expected) in (0..).zip(letters.chars()) {
                    for address in ["192.0.2.99", "2001:db8::99", "::ffff:192.0.2.99"] {
                        let from = SocketAddr::new(address.parse().unwrap(), port);
                        let found = outcome(version, mode, more, from, &rules, *rate);
                        assert_eq!(found, expected, "{flags:?}: version {version}, mode {mode}, from {from}");
                    }
                }
                assert_eq!(letters.len(), 6);
            }
        }
    }
}

fn rules(flags: &str) -> RestrictTable {
    let (mut denied, mut ntpport) = (RestrictFlags::default(), false);
    for flag in flags.split_whitespace() {
        *match flag {
            "ignore" => &mut denied.ignore,
            "noserve" => &mut denied.noserve,
            "noquery" => &mut denied.noquery,
            "notrust" => &mut denied.notrust,
            "version" => &mut denied.version,
            "limited" => &mut denied.limited,
            "kod" => &mut denied.kod,
            "ntpport" => &mut ntpport,
            _ => panic!("{flag}"),
        } = true;
    }
    let entry =
        |network: &str, ntpport, flags| RestrictEntry { network: network.parse().unwrap(), ntpport, flags };
    let mut entries: Vec<_> =
        ["0.0.0.0/0", "::/0"].map(|network| entry(network, ntpport, denied)).into_iter().collect();
    if ntpport {
        entries.extend(["0.0.0.0/0", "::/0"].map(|network| entry(network, false, RestrictFlags::default())));
    }
    RestrictTable::new(&entries)
}

/// A memory with a fixed verdict.
struct Fixed(RateVerdict);

impl Memory for Fixed {
    fn judge(&mut self, _: IpAddr, _: Mono, _: &RateLimit) -> RateVerdict {
        self.0
    }

    fn departure(&mut self, _: NtpTimestamp) -> Option<NtpTimestamp> {
        None
    }

    fn expect(&mut self, _: NtpTimestamp) -> Option<NtpTimestamp> {
        None
    }
}

fn outcome(
    version: u8,
    mode: u8,
    more: &[u8],
    from: SocketAddr,
    rules: &RestrictTable,
    rate: RateVerdict,
) -> char {
    let datagram = Header { version, mode, transmit: NtpTimestamp(7), ..Header::default() }.encode();
    let datagram = [&datagram[..], more].concat();
    let request = Request { datagram: &datagram, from, to_group: false, received: Wall(0), now: Mono(0) };
    let limit = RateLimit { interval: 3, burst: 8, leak: 2 };
    let serving = Serving { served: &good(), rules, limit: &limit };
    let decision = respond(&request, &serving, &mut Fixed(rate));
    assert_eq!(decision.version, Some(version));
    match decision.verdict {
        Verdict::Answer(answer) => match packet::decode(&answer.at(Wall(1))).unwrap() {
            reply if reply.version != version || reply.origin != NtpTimestamp(7) => '?',
            reply if reply.mode == 4 => 'A',
            reply if reply.mode == 2 => 'P',
            _ => '?',
        },
        Verdict::Kiss(octets) => match packet::decode(&octets).unwrap() {
            kiss if kiss.stratum == 0 && kiss.reference_id == *b"RATE" && kiss.version == version => 'K',
            _ => '?',
        },
        Verdict::Sign(_) => 'S',
        Verdict::Query => 'Q',
        Verdict::Seal(_) => 'N',
        Verdict::Drop(reason) => match reason {
            DropReason::Noquery => 'q',
            DropReason::Ignore => 'i',
            DropReason::Noserve => 'n',
            DropReason::Unauthenticated => 't',
            DropReason::Version => 'v',
            DropReason::RateLimited => 'l',
            DropReason::UnknownVersion => 'u',
            DropReason::Mode => 'm',
            DropReason::Malformed => 'f',
            _ => '?',
        },
    }
}
