//! Directives of ntp.conf and their options, and what is to be said of each: where it goes, that nobody misses it, or
//! that something that matters is left out. Data alone. From the manuals of ntp 4.2.8 (ntp.conf(5)) and NTPsec 1.2.

use crate::{
    directive::{Directive, carried, depends, left_out, unneeded},
    remarks::Fate::{self, LeftOut, Unneeded},
};

/// Directives, what becomes of them, and why.
pub(super) const DIRECTIVES: &[Directive] = &[
    carried(
        &["server", "pool", "peer"],
        "`upstreams`; 127.127.1.x is `stratum.local`, other clocks of 127.127.x.x are left out",
    ),
    carried(&["refclock"], "`refclock local` is `stratum.local`; other clocks are left out"),
    carried(&["fudge"], "`stratum` of the local clock is `stratum.local`, one more"),
    carried(
        &["restrict", "unrestrict", "delrestrict"],
        "`restrict`; names are looked up when the file is converted",
    ),
    carried(&["discard"], "`average` is `serve.rateLimit.interval`"),
    carried(&["limit"], "`average` and `burst` are those of `serve.rateLimit`"),
    carried(&["mru"], "`maxdepth` is `serve.rateLimit.maxClients`"),
    carried(
        &["tos"],
        "`minsane` is `clock.minSources`, `maxdist` `clock.maxDistance`, `orphan` `stratum.orphan`, `orphanwait` \
         `stratum.activateAfter`; `ceiling`, `floor` and `cohort` are left out unless they are as without them",
    ),
    carried(&["tinker"], "`step` is `clock.step.threshold`, `panic` `clock.maxChange`"),
    carried(
        &["enable", "disable"],
        "`disable ntp` is mode Observe; `enable bclient` and `enable calibrate` are left out",
    ),
    carried(&["keys"], "each key that a line uses is a Secret; the file is not read"),
    carried(&["trustedkey"], "`serve.keys`, for clients"),
    carried(&["nts"], "`ca` of the upstreams, `serve.nts`"),
    carried(&["includefile"], "the file is read, in its place"),
    depends(
        &["interface", "nic", "listen"],
        "`serve.addresses`; left out where a line names a network card or a part of a network",
    ),
    depends(
        &["crypto"],
        "left out: Autokey is not spoken; a line with the password alone is not needed, if none asks for it",
    ),
    carried(&["slewalways"], "`clock.step.limit`: 0 (AIX)"),
    unneeded(&["driftfile"], "the agent keeps its own drift in its state directory"),
    unneeded(&["logfile", "logconfig"], "the agent logs to standard error, --log-level says how much"),
    unneeded(
        &["statsdir", "statistics", "filegen"],
        "there are no statistics files: /metrics and `timesync-agent sources` show what they would hold",
    ),
    unneeded(&["leapfile"], "the agent reads the leap seconds that the host's time zone data know"),
    unneeded(
        &["pidfile", "rlimit", "reset", "saveconfigdir", "nonvolatile", "tick"],
        "the agent needs nothing like it",
    ),
    unneeded(&["controlkey", "requestkey"], "nothing can be changed over the network, so no key allows it"),
    unneeded(&["broadcastdelay", "ttl", "mdnstries"], "it is for broadcasts, which there are none of"),
    unneeded(&["keysdir", "automax", "revoke"], "it is for Autokey, which there is none of"),
    unneeded(&["calldelay"], "it is for modems, which are not dialled"),
    left_out(
        &["broadcast", "broadcastclient", "multicastclient", "manycastclient", "manycastserver"],
        "nothing is sent to, or taken from, a broadcast or multicast address: whoever can forge one packet moves \
         all clocks. Name \
         the servers in lines of their own",
    ),
    left_out(
        &["autokey"],
        "Autokey is broken and not spoken. Use NTS (`nts` in the server's line) or a shared key",
    ),
    left_out(
        &["leapsmearinterval"],
        "time is not smeared for clients. Where the upstreams smear, say so in clock.leap.smear",
    ),
    unneeded(&["dscp", "qos"], "packets are not marked for routers, and the time is the same"),
    unneeded(
        &["authenticate"],
        "no association is ever made from a packet, with or without a key (xntpd and AIX)",
    ),
    unneeded(&["tracefile"], "the agent logs to standard error (AIX)"),
    unneeded(&["slewthreshold"], "how far off a clock may be slewed is not limited (AIX)"),
    left_out(&["trap"], "there are no traps. Kubernetes events, /metrics and the log tell what happens"),
    left_out(&["setvar"], "variables of your own cannot be shown to ntpq"),
    left_out(&["phone"], "no modem is dialled for the time"),
    left_out(&["pollskewlist"], "polls are spread over time in one fixed way"),
    left_out(&["ntpsigndsocket"], "requests of Windows clients (mssntp) are not signed"),
    left_out(&["unpeer"], "an upstream cannot be taken back: delete its line"),
    unneeded(&["ippeerlimit"], "no association is made from a packet, so there are none to count"),
    left_out(&["extra"], "time is served on one port"),
    left_out(&["simulate"], "there is no simulator in the agent"),
    left_out(
        &["device"],
        "reference clocks on a serial line are not read; a PTP clock is an upstream with `device`",
    ),
];

/// Words of `tos`.
pub(super) const TOS: &[(&str, Fate, &str)] = &[
    (
        "minclock",
        Unneeded,
        "there is no such threshold: every source that agrees is weighed by how good it is",
    ),
    ("mindist", Unneeded, "how far sources may be apart is told by their own errors"),
    ("beacon", Unneeded, "it is for manycast, which there is none of"),
    ("basedate", Unneeded, "the era of a timestamp is told by the clock and the build"),
    ("bcpollbstep", Unneeded, "it is for broadcasts, which there are none of"),
    ("mdnstries", Unneeded, "the agent is not announced by mDNS"),
    ("ceiling", LeftOut, "servers are not chosen by stratum"),
    ("floor", LeftOut, "servers are not chosen by stratum"),
    ("cohort", LeftOut, "servers are not chosen by stratum"),
];

/// Words of `tinker`.
pub(super) const TINKER: &[(&str, Fate, &str)] = &[
    ("stepout", Unneeded, "after the start nothing is stepped, however long it lasts"),
    ("allan", Unneeded, "it tunes ntpd's loop; this one finds its own interval"),
    ("dispersion", Unneeded, "it tunes ntpd's loop; errors are measured here"),
    ("freq", Unneeded, "the frequency is measured, and kept over restarts"),
    ("huffpuff", Unneeded, "delays on one way alone are weighed in another manner"),
    ("tick", Unneeded, "the kernel's tick is left as it is"),
    ("stepfwd", LeftOut, "there is one threshold for both directions: use tinker step"),
    ("stepback", LeftOut, "there is one threshold for both directions: use tinker step"),
];

/// Words of `disable`; the same of `enable` are what happens anyhow.
pub(super) const SWITCHES: &[(&str, &str)] = &[
    ("auth", "no association is ever made from a packet, with or without a key"),
    ("bclient", "broadcasts are never listened to"),
    ("calibrate", "reference clocks are not calibrated"),
    ("kernel", "the kernel's own loop is not used anyhow"),
    ("mode7", "ntpdc's protocol is not spoken"),
    ("monitor", "the list of clients cannot be asked for, so nothing can be made to amplify it"),
    ("stats", "there are no statistics files"),
    ("peer_clear_digest_early", "the agent needs nothing like it"),
    ("unpeer_crypto_early", "the agent needs nothing like it"),
    ("unpeer_crypto_nak_early", "the agent needs nothing like it"),
    ("unpeer_digest_early", "the agent needs nothing like it"),
];

/// Options of `server`, `pool` and `peer`; with how many words follow each.
pub(super) const OF_SERVER: &[(&str, usize, Fate, &str)] = &[
    ("preempt", 0, Unneeded, "which servers of a pool are kept is told by how they do"),
    ("xmtnonce", 0, Unneeded, "a request never tells the time that it was sent at"),
    (
        "xleave",
        0,
        Unneeded,
        "it is for symmetric and broadcast modes; servers are asked so with the field interleaved",
    ),
    ("dynamic", 0, Unneeded, "it is so anyhow"),
    ("expire", 0, Unneeded, "certificates that are out of date are never taken"),
    ("mode", 1, Unneeded, "it is for reference clocks"),
    ("ttl", 1, Unneeded, "it is for multicast"),
    ("stepback", 0, Unneeded, "it is so anyhow"),
    ("bias", 1, LeftOut, "a source's offset cannot be corrected by hand"),
    ("ask", 1, LeftOut, "the server of the key exchange names the time server"),
    ("require", 1, LeftOut, "the server of the key exchange names the time server"),
    ("cert", 1, LeftOut, "a client has no certificate"),
    ("aead", 1, LeftOut, "AES-SIV-CMAC-256 is what is asked for"),
    ("noval", 0, LeftOut, "certificates are always verified. Give the server's own authority with `ca`"),
    ("flag1", 1, Unneeded, "it is for reference clocks"),
];
