//! Directives of chrony.conf that have no field here, and what is to be said of each: that nobody misses it, or that
//! something that matters is left out. Data alone. From the manual of chrony 4.6 (chrony.conf(5)).
use super::draft::Fate::{self, LeftOut, Unneeded};

/// Directives, what becomes of them, and why.
pub(super) const WITHOUT_FIELD: &[(&[&str], Fate, &str)] = &[
    (&["driftfile"], Unneeded, "the agent keeps its own drift in its state directory"),
    (
        &["dumpdir", "dumponexit"],
        Unneeded,
        "the agent keeps what it measured over a restart, in its state directory",
    ),
    (
        &["logdir", "log", "logbanner"],
        Unneeded,
        "there are no files of measurements: /metrics and `timesync-agent sources` show what they would hold",
    ),
    (&["logchange"], Unneeded, "Kubernetes events, /metrics and the log tell of jumps"),
    (&["mailonchange"], LeftOut, "no mail is sent. Kubernetes events, /metrics and the log tell of jumps"),
    (
        &["leapsectz", "leapseclist"],
        Unneeded,
        "the agent reads the leap seconds that the host's time zone data know",
    ),
    (
        &[
            "bindcmdaddress",
            "bindcmddevice",
            "cmdallow",
            "cmddeny",
            "cmdport",
            "cmdratelimit",
            "opencommands",
        ],
        Unneeded,
        "chronyc's protocol is not spoken: `timesync-agent sources` and ntpq show what chronyc shows",
    ),
    (
        &["commandkey", "generatecommandkey"],
        Unneeded,
        "nothing can be changed over the network, so no key allows it",
    ),
    (
        &[
            "combinelimit",
            "corrtimeratio",
            "clockprecision",
            "maxclockerror",
            "maxdrift",
            "maxjitter",
            "maxsamples",
            "maxupdateskew",
            "minsamples",
            "reselectdist",
            "stratumweight",
            "fallbackdrift",
            "linux_hz",
            "linux_freq_scale",
            "refresh",
        ],
        Unneeded,
        "it tunes chronyd's own estimates; the agent makes them in its own way",
    ),
    (
        &["pidfile", "user", "sched_priority", "lock_all", "maxtxbuffers", "hwtstimeout"],
        Unneeded,
        "the agent needs nothing like it",
    ),
    (
        &["rtconutc"],
        Unneeded,
        "/etc/adjtime tells whether the hardware clock shows UTC; where it says nothing, it does",
    ),
    (
        &["clientloglimit", "noclientlog"],
        Unneeded,
        "the table of clients has a fixed size, and forgets who was silent the longest",
    ),
    (&["ntsdumpdir", "ntscachedir"], Unneeded, "cookies are kept in the agent's state directory"),
    (
        &["ntsprocesses", "maxntsconnections", "ntsrotate", "ntsratelimit", "ntsrefresh", "ntsaeads"],
        Unneeded,
        "how NTS is served is not to be tuned",
    ),
    (
        &["include", "confdir", "sourcedir"],
        LeftOut,
        "no other file is read. Put what stands there here, in this place, or convert it too; there may be \
         servers in it",
    ),
    (&["hwtimestamp"], LeftOut, "packets are stamped by the kernel, not by the network card"),
    (
        &["initstepslew"],
        LeftOut,
        "no other servers are asked at the start. A clock that is far off is stepped then, as clock.step says",
    ),
    (&["manual"], LeftOut, "the time cannot be typed in"),
    (
        &["smoothtime"],
        LeftOut,
        "time is not smeared or smoothed for clients. Where the upstreams smear, say so in clock.leap.smear",
    ),
    (&["tempcomp"], LeftOut, "the oscillator's temperature is not read"),
    (
        &["bindaddress", "binddevice"],
        LeftOut,
        "time is served on all addresses of the node. Say in restrict lines who may ask, or in a firewall on \
         which card",
    ),
    (&["bindacqaddress", "bindacqdevice"], LeftOut, "requests leave by the way that the node's routes say"),
    (
        &["acquisitionport"],
        LeftOut,
        "each request has a port of its own (RFC 9109): let answers from port 123 to any port through the firewall",
    ),
    (&["dscp"], LeftOut, "packets are not marked for routers"),
    (&["ntpsigndsocket"], LeftOut, "requests of Windows clients (MS-SNTP) are not signed"),
    (&["ntsntpserver"], LeftOut, "who asked for keys here is told to ask for the time here"),
    (&["nocerttimecheck"], LeftOut, "certificates that are out of date are taken by nobody"),
    (
        &["rtcfile"],
        LeftOut,
        "how fast the hardware clock drifts is shown, not made up for; rtc.mode Verified has it written and read back",
    ),
    (&["rtcautotrim"], LeftOut, "rtc.mode Verified writes the hardware clock whenever it is off"),
    (
        &["hwclockfile"],
        LeftOut,
        "whether the hardware clock shows UTC or local time is read from /etc/adjtime alone",
    ),
    (&["ptpport", "ptpdomain"], LeftOut, "NTP is not sent over PTP"),
    (
        &["broadcast"],
        LeftOut,
        "nothing is sent to a broadcast address: whoever can forge one packet moves all clocks",
    ),
];

/// Options of `server`, `pool` and `peer`, with how many words follow each.
pub(super) const OF_SERVER: &[(&str, usize, Fate, &str)] = &[
    ("auto_offline", 0, Unneeded, "a server that cannot be reached is asked on, at its longest poll"),
    ("extfield", 1, Unneeded, "extension fields are used where both sides know them"),
    ("filter", 1, Unneeded, "all measurements are kept, each by how good it is"),
    ("maxdelayratio", 1, Unneeded, "answers that took long weigh less, by how long they took"),
    ("maxdelaydevratio", 1, Unneeded, "answers that took long weigh less, by how long they took"),
    ("maxdelayquant", 1, Unneeded, "answers that took long weigh less, by how long they took"),
    (
        "maxdelay",
        1,
        LeftOut,
        "there is no fixed limit; answers that took long weigh less, by how long they took",
    ),
    ("maxsamples", 1, Unneeded, "it tunes chronyd's own estimates"),
    ("minsamples", 1, Unneeded, "it tunes chronyd's own estimates"),
    ("maxunreach", 1, Unneeded, "how long an old measurement counts is told by its error"),
    ("polltarget", 1, Unneeded, "it tunes chronyd's own estimates"),
    ("presend", 1, Unneeded, "no packet is sent ahead of a request"),
    ("asymmetry", 1, LeftOut, "how delays are divided between the two ways is not to be set"),
    ("certset", 1, LeftOut, "there is one set of certificates per upstream"),
    ("copy", 0, LeftOut, "a server's stratum and reference are not passed on as its own"),
    ("ipv4", 0, LeftOut, "addresses of both families are asked"),
    ("ipv6", 0, LeftOut, "addresses of both families are asked"),
    ("mindelay", 1, LeftOut, "how long an answer takes at least is measured"),
    ("minstratum", 1, LeftOut, "servers are not chosen by stratum"),
    ("offline", 0, LeftOut, "every upstream is asked from the start"),
    ("offset", 1, LeftOut, "a source's offset cannot be corrected by hand"),
];

/// Options of `refclock PHC`, with how many words follow each.
pub(super) const OF_DEVICE: &[(&str, usize, Fate, &str)] = &[
    ("dpoll", 1, Unneeded, "several readings are taken at each poll"),
    ("filter", 1, Unneeded, "several readings are taken at each poll"),
    ("refid", 1, Unneeded, "a device's reference id is PHC0, PHC1 and so on"),
    ("precision", 1, Unneeded, "it is measured"),
    ("maxsamples", 1, Unneeded, "it tunes chronyd's own estimates"),
    ("minsamples", 1, Unneeded, "it tunes chronyd's own estimates"),
    ("maxdispersion", 1, LeftOut, "readings that took long weigh less, by how long they took"),
    ("delay", 1, LeftOut, "how long a reading takes is measured"),
    ("stratum", 1, LeftOut, "a device has stratum 0"),
];
