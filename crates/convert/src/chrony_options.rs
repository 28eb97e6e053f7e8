//! Directives of chrony.conf and their options, and what is to be said of each: where it goes, that nobody misses it, or
//! that something that matters is left out. Data alone. From the manual of chrony 4.6 (chrony.conf(5)).
use crate::{
    directive::{Directive, carried, depends, left_out, unneeded},
    remarks::Fate::{self, LeftOut, Unneeded},
};

/// Directives, what becomes of them, and why.
pub(super) const DIRECTIVES: &[Directive] = &[
    carried(&["server", "pool", "peer"], "`upstreams`; the node itself is not one"),
    carried(&["refclock"], "PHC is an upstream with `device`; other clocks are left out"),
    carried(&["allow", "deny"], "`restrict`; names are looked up when the file is converted"),
    carried(&["ratelimit"], "`serve.rateLimit`, and the flag `limited`"),
    carried(&["local"], "`stratum.local`, `stratum.orphan`, `stratum.activateAfter`"),
    carried(
        &["makestep"],
        "`clock.step`; steps after the start are those of a clock that another program set",
    ),
    carried(
        &["initstepslew"],
        "`clock.step` with one step, where no line says makestep; its servers must be upstreams",
    ),
    carried(&["maxchange"], "`clock.maxChange`"),
    carried(&["maxdistance"], "`clock.maxDistance`"),
    carried(&["maxslewrate"], "`clock.maxSlewRate`"),
    carried(&["minsources"], "`clock.minSources`"),
    carried(&["leapsecmode"], "`clock.leap.mode`"),
    carried(&["port"], "`serve.port`; 0 is `serve.enabled`: false"),
    carried(&["rtcsync"], "what holds without it: `rtc.mode` Kernel"),
    carried(&["rtcdevice"], "the agent's `rtcDevice`; /dev/rtc0 is what a policy's agents use"),
    carried(
        &["keyfile"],
        "each key that a line uses is a Secret; if clients may ask, the keys' numbers are read for `serve.keys`",
    ),
    depends(&["authselectmode"], "`mix` is what holds without it; others are left out"),
    carried(&["ntsservercert", "ntsserverkey", "ntsport"], "`serve.nts`"),
    carried(&["ntstrustedcerts", "nosystemcert"], "`nts.ca` of each upstream"),
    depends(&["hwclockfile"], "/etc/adjtime is what is read; another file is left out"),
    carried(&["include", "confdir", "sourcedir"], "the files are read, in this place"),
    depends(&["bindaddress"], "`serve.addresses`; not needed where no client may ask"),
    unneeded(&["driftfile"], "the agent keeps its own drift in its state directory"),
    unneeded(
        &["dumpdir", "dumponexit"],
        "the agent keeps what it measured over a restart, in its state directory",
    ),
    unneeded(
        &["logdir", "log", "logbanner"],
        "there are no files of measurements: /metrics and `timesync-agent sources` show what they would hold",
    ),
    unneeded(&["logchange"], "Kubernetes events, /metrics and the log tell of jumps"),
    left_out(&["mailonchange"], "no mail is sent. Kubernetes events, /metrics and the log tell of jumps"),
    unneeded(
        &["leapsectz", "leapseclist"],
        "the agent reads the leap seconds that the host's time zone data know",
    ),
    unneeded(
        &[
            "bindcmdaddress",
            "bindcmddevice",
            "cmdallow",
            "cmddeny",
            "cmdport",
            "cmdratelimit",
            "opencommands",
        ],
        "chronyc's protocol is not spoken: `timesync-agent sources` and ntpq show what chronyc shows",
    ),
    unneeded(
        &["commandkey", "generatecommandkey"],
        "nothing can be changed over the network, so no key allows it",
    ),
    unneeded(
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
        "it tunes chronyd's own estimates; the agent makes them in its own way",
    ),
    unneeded(
        &["pidfile", "user", "sched_priority", "lock_all", "maxtxbuffers", "hwtstimeout"],
        "the agent needs nothing like it",
    ),
    unneeded(
        &["rtconutc"],
        "/etc/adjtime tells whether the hardware clock shows UTC; where it says nothing, it does",
    ),
    unneeded(
        &["clientloglimit", "noclientlog"],
        "the table of clients has a fixed size, and forgets who was silent the longest",
    ),
    unneeded(&["ntsdumpdir", "ntscachedir"], "cookies are kept in the agent's state directory"),
    unneeded(
        &["ntsprocesses", "maxntsconnections", "ntsrotate", "ntsratelimit", "ntsrefresh", "ntsaeads"],
        "how NTS is served is not to be tuned",
    ),
    left_out(&["hwtimestamp"], "packets are stamped by the kernel, not by the network card"),
    left_out(&["manual"], "the time cannot be typed in"),
    depends(
        &["smoothtime"],
        "left out where clients may ask: time is not smeared or smoothed for them. Where the upstreams smear, say so in clock.leap.smear",
    ),
    left_out(&["tempcomp"], "the oscillator's temperature is not read"),
    left_out(
        &["binddevice"],
        "time is served on all addresses of the node. Say in restrict lines who may ask, or in a firewall on \
         which card",
    ),
    depends(
        &["bindacqaddress", "bindacqdevice"],
        "left out, unless it is for all addresses: requests leave by the way that the node's routes say",
    ),
    left_out(
        &["acquisitionport"],
        "each request has a port of its own (RFC 9109): let answers from port 123 to any port through the firewall",
    ),
    unneeded(&["dscp"], "packets are not marked for routers, and the time is the same"),
    left_out(&["ntpsigndsocket"], "requests of Windows clients (MS-SNTP) are not signed"),
    left_out(&["ntsntpserver"], "who asked for keys here is told to ask for the time here"),
    left_out(&["nocerttimecheck"], "certificates that are out of date are taken by nobody"),
    unneeded(
        &["rtcfile"],
        "how fast the hardware clock drifts is shown, not made up for; rtc.mode Verified has it written and read back",
    ),
    left_out(&["rtcautotrim"], "rtc.mode Verified writes the hardware clock whenever it is off"),
    left_out(&["ptpport", "ptpdomain"], "NTP is not sent over PTP"),
    left_out(
        &["broadcast"],
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
    ("offline", 0, Unneeded, "every upstream is asked from the start, as after `chronyc online`"),
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
    ("delay", 1, Unneeded, "how long a reading takes is measured"),
];

/// What options of `server` and of `refclock` are without being said.
pub(super) const SERVER_DEFAULTS: &[(&str, f64)] =
    &[("offset", 0.0), ("minstratum", 0.0), ("maxdelay", 3.0), ("mindelay", 0.0)];
pub(super) const DEVICE_DEFAULTS: &[(&str, f64)] =
    &[("offset", 0.0), ("stratum", 0.0), ("delay", 1e-9), ("maxdispersion", 0.0)];
