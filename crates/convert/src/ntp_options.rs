//! The directives of ntp.conf and their options, with the remark for each: the field that it becomes, that it is not
//! needed, or what is lost without it. Only data. From the manuals of ntp 4.2.8 (ntp.conf(5)) and NTPsec 1.2.

use crate::{
    directive::{Directive, carried, depends, left_out, unneeded},
    remarks::Fate::{self, LeftOut, Unneeded},
};

/// Directives, what they become, and why.
pub(super) const DIRECTIVES: &[Directive] = &[
    carried(
        &["server", "pool", "peer"],
        "`upstreams`; 127.127.1.x is `stratum.local`, other clocks of 127.127.x.x are left out",
    ),
    carried(&["refclock"], "`refclock local` is `stratum.local`; other clocks are left out"),
    carried(&["fudge"], "`stratum` of the local clock, plus one, is `stratum.local`"),
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
    carried(&["keys"], "each key that a line uses becomes a Secret; the file is not read"),
    carried(&["trustedkey"], "`serve.keys`, for clients"),
    carried(&["nts"], "`ca` of the upstreams, `serve.nts`"),
    carried(&["includefile"], "the file is read at this place"),
    depends(
        &["interface", "nic", "listen"],
        "`serve.addresses`; left out where a line names a network card or a part of a network",
    ),
    depends(
        &["crypto"],
        "left out: Autokey is not supported; a line with only the password is not needed if no line uses Autokey",
    ),
    carried(&["slewalways"], "`clock.step.limit`: 0 (AIX)"),
    unneeded(&["driftfile"], "the agent keeps its own drift in its state directory"),
    unneeded(&["logfile", "logconfig"], "the agent logs to standard error; see --log-level"),
    unneeded(
        &["statsdir", "statistics", "filegen"],
        "there are no statistics files: /metrics and `timesync-agent sources` show the same values",
    ),
    unneeded(&["leapfile"], "the agent reads leap seconds from the host's time zone data"),
    unneeded(
        &["pidfile", "rlimit", "reset", "saveconfigdir", "nonvolatile", "tick"],
        "the agent does not need it",
    ),
    unneeded(&["controlkey", "requestkey"], "nothing can be changed over the network, with or without a key"),
    unneeded(&["broadcastdelay", "ttl", "mdnstries"], "it is for broadcast mode, which is not supported"),
    unneeded(&["keysdir", "automax", "revoke"], "it is for Autokey, which is not supported"),
    unneeded(&["calldelay"], "it is for modems, which are not supported"),
    left_out(
        &["broadcast", "broadcastclient", "multicastclient", "manycastclient", "manycastserver"],
        "nothing is sent to, or taken from, a broadcast or multicast address: whoever can forge one packet moves \
         all clocks. Name \
         the servers in lines of their own",
    ),
    left_out(
        &["autokey"],
        "Autokey is broken and not supported. Use NTS (`nts` in the server's line) or a shared key",
    ),
    left_out(
        &["leapsmearinterval"],
        "time is not smeared for clients. If the upstreams smear, set clock.leap.smear",
    ),
    unneeded(&["dscp", "qos"], "packets are not marked for routers, and the time is the same"),
    unneeded(
        &["authenticate"],
        "a packet never creates an association, with or without a key (xntpd and AIX)",
    ),
    unneeded(&["tracefile"], "the agent logs to standard error (AIX)"),
    unneeded(&["slewthreshold"], "there is no limit for the offset that is slewed (AIX)"),
    left_out(&["trap"], "there are no traps. Kubernetes events, /metrics and the log report events"),
    left_out(&["setvar"], "ntpq cannot show user-defined variables"),
    left_out(&["phone"], "modems are not supported"),
    left_out(&["pollskewlist"], "the spread of polls over time cannot be configured"),
    left_out(&["ntpsigndsocket"], "requests of Windows clients (mssntp) are not signed"),
    left_out(&["unpeer"], "an upstream cannot be removed by a line: delete its line"),
    unneeded(&["ippeerlimit"], "a packet never creates an association, so there are none to count"),
    left_out(&["extra"], "time is served on one port"),
    left_out(&["simulate"], "there is no simulator in the agent"),
    left_out(
        &["device"],
        "reference clocks on a serial line are not read; a PTP clock is an upstream with `device`",
    ),
];

/// Words of `tos`.
pub(super) const TOS: &[(&str, Fate, &str)] = &[
    ("minclock", Unneeded, "there is no such threshold: every agreeing source has a weight by its quality"),
    ("mindist", Unneeded, "the errors of sources decide how far they may differ"),
    ("beacon", Unneeded, "it is for manycast, which is not supported"),
    (
        "basedate",
        Unneeded,
        "the agent derives the era of a timestamp from the clock and the date of its build",
    ),
    ("bcpollbstep", Unneeded, "it is for broadcast mode, which is not supported"),
    ("mdnstries", Unneeded, "the agent is not announced by mDNS"),
    ("ceiling", LeftOut, "servers are not chosen by stratum"),
    ("floor", LeftOut, "servers are not chosen by stratum"),
    ("cohort", LeftOut, "servers are not chosen by stratum"),
];

/// Words of `tinker`.
pub(super) const TINKER: &[(&str, Fate, &str)] = &[
    ("stepout", Unneeded, "after the start an offset is not stepped, regardless of how long it lasts"),
    ("allan", Unneeded, "it tunes ntpd's loop; the agent chooses the interval itself"),
    ("dispersion", Unneeded, "it tunes ntpd's loop; the agent measures errors"),
    ("freq", Unneeded, "the frequency is measured, and kept over restarts"),
    ("huffpuff", Unneeded, "the agent handles one-sided delays in another way"),
    ("tick", Unneeded, "the kernel's tick is not changed"),
    ("stepfwd", LeftOut, "there is one threshold for both directions: use tinker step"),
    ("stepback", LeftOut, "there is one threshold for both directions: use tinker step"),
];

/// Words of `disable`. The same words of `enable` describe what the agent always does.
pub(super) const SWITCHES: &[(&str, &str)] = &[
    ("auth", "a packet never creates an association, with or without a key"),
    ("bclient", "broadcast mode is not supported"),
    ("calibrate", "reference clocks are not calibrated"),
    ("kernel", "the kernel's loop is never used"),
    ("mode7", "ntpdc's protocol is not supported"),
    ("monitor", "the list of clients cannot be queried, so it cannot be used for amplification"),
    ("stats", "there are no statistics files"),
    ("peer_clear_digest_early", "the agent does not need it"),
    ("unpeer_crypto_early", "the agent does not need it"),
    ("unpeer_crypto_nak_early", "the agent does not need it"),
    ("unpeer_digest_early", "the agent does not need it"),
];

/// Options of `server`, `pool` and `peer`, with the number of words that follow each.
pub(super) const OF_SERVER: &[(&str, usize, Fate, &str)] = &[
    ("preempt", 0, Unneeded, "the agent decides by their quality which servers of a pool are kept"),
    ("xmtnonce", 0, Unneeded, "a request never contains its time of departure"),
    ("xleave", 0, Unneeded, "it is for symmetric and broadcast modes; for servers use the field interleaved"),
    ("dynamic", 0, Unneeded, "it is always so"),
    ("expire", 0, Unneeded, "expired certificates are never accepted"),
    ("mode", 1, Unneeded, "it is for reference clocks"),
    ("ttl", 1, Unneeded, "it is for multicast"),
    ("stepback", 0, Unneeded, "it is always so"),
    ("bias", 1, LeftOut, "a source's offset cannot be corrected by hand"),
    ("ask", 1, LeftOut, "the server of the key exchange names the time server"),
    ("require", 1, LeftOut, "the server of the key exchange names the time server"),
    ("cert", 1, LeftOut, "a client has no certificate"),
    ("aead", 1, LeftOut, "the agent uses only AES-SIV-CMAC-256"),
    ("noval", 0, LeftOut, "certificates are always verified. Give the server's own authority with `ca`"),
    ("flag1", 1, Unneeded, "it is for reference clocks"),
];
