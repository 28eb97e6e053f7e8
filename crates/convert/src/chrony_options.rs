//! The directives of chrony.conf and their options, with the remark for each: the field that it becomes, that it is not
//! needed, or what is lost without it. Only data. From the manual of chrony 4.6 (chrony.conf(5)).
use crate::{
    directive::{Directive, carried, depends, left_out, unneeded},
    remarks::Fate::{self, LeftOut, Unneeded},
};

/// Directives, what they become, and why.
pub(super) const DIRECTIVES: &[Directive] = &[
    carried(&["server", "pool", "peer"], "`upstreams`, without the node itself"),
    carried(&["refclock"], "PHC is an upstream with `device`; other clocks are left out"),
    carried(&["allow", "deny"], "`restrict`; names are looked up when the file is converted"),
    carried(&["ratelimit"], "`serve.rateLimit`, and the flag `limited`"),
    carried(&["local"], "`stratum.local`, `stratum.orphan`, `stratum.activateAfter`"),
    carried(
        &["makestep"],
        "`clock.step`; after the start the clock is stepped only if another program has stepped it",
    ),
    carried(
        &["initstepslew"],
        "`clock.step` with one step, if there is no line makestep; its servers must be upstreams",
    ),
    carried(&["maxchange"], "`clock.maxChange`"),
    carried(&["maxdistance"], "`clock.maxDistance`"),
    carried(&["maxslewrate"], "`clock.maxSlewRate`"),
    carried(&["minsources"], "`clock.minSources`"),
    carried(&["leapsecmode"], "`clock.leap.mode`"),
    carried(&["port"], "`serve.port`; 0 is `serve.enabled`: false"),
    carried(&["rtcsync"], "the default: `rtc.mode` Kernel"),
    carried(&["rtcdevice"], "the agent's `rtcDevice`; the agents of a policy use /dev/rtc0"),
    carried(
        &["keyfile"],
        "each key that a line uses becomes a Secret; if clients may ask, the ids of the keys are read for `serve.keys`",
    ),
    depends(&["authselectmode"], "`mix` is the default; others are left out"),
    carried(&["ntsservercert", "ntsserverkey", "ntsport"], "`serve.nts`"),
    carried(&["ntstrustedcerts", "nosystemcert"], "`nts.ca` of each upstream"),
    depends(&["hwclockfile"], "the agent reads /etc/adjtime; another file is left out"),
    carried(&["include", "confdir", "sourcedir"], "the files are read at this place"),
    depends(&["bindaddress"], "`serve.addresses`; not needed if no client may ask"),
    unneeded(&["driftfile"], "the agent keeps its own drift in its state directory"),
    unneeded(
        &["dumpdir", "dumponexit"],
        "the agent keeps what it measured over a restart, in its state directory",
    ),
    unneeded(
        &["logdir", "log", "logbanner"],
        "there are no files of measurements: /metrics and `timesync-agent sources` show the same values",
    ),
    unneeded(&["logchange"], "Kubernetes events, /metrics and the log report steps"),
    left_out(&["mailonchange"], "no mail is sent. Kubernetes events, /metrics and the log report steps"),
    unneeded(&["leapsectz", "leapseclist"], "the agent reads leap seconds from the host's time zone data"),
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
        "chronyc's protocol is not supported: `timesync-agent sources` and ntpq show the same values",
    ),
    unneeded(
        &["commandkey", "generatecommandkey"],
        "nothing can be changed over the network, with or without a key",
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
        "it tunes chronyd's estimates; the agent estimates in another way",
    ),
    unneeded(
        &["pidfile", "user", "sched_priority", "lock_all", "maxtxbuffers", "hwtstimeout"],
        "the agent does not need it",
    ),
    unneeded(
        &["rtconutc"],
        "the agent reads from /etc/adjtime whether the hardware clock has UTC; without an entry it has",
    ),
    unneeded(
        &["clientloglimit", "noclientlog"],
        "the table of clients has a fixed size, and drops the client that was silent the longest",
    ),
    unneeded(&["ntsdumpdir", "ntscachedir"], "cookies are kept in the agent's state directory"),
    unneeded(
        &["ntsprocesses", "maxntsconnections", "ntsrotate", "ntsratelimit", "ntsrefresh", "ntsaeads"],
        "how NTS is served cannot be configured",
    ),
    left_out(&["hwtimestamp"], "the kernel makes the timestamps of packets, not the network card"),
    left_out(&["manual"], "the time cannot be entered by hand"),
    depends(
        &["smoothtime"],
        "left out if clients may ask: time is not smeared or smoothed for clients. If the upstreams smear, set clock.leap.smear",
    ),
    left_out(&["tempcomp"], "the oscillator's temperature is not read"),
    left_out(
        &["binddevice"],
        "network cards have other names on other nodes. List the nodes' addresses in serve.addresses",
    ),
    depends(
        &["bindacqaddress", "bindacqdevice"],
        "left out, unless it is for all addresses: the node's routes decide how requests leave",
    ),
    left_out(
        &["acquisitionport"],
        "each request uses a new port (RFC 9109): let the firewall pass replies from port 123 to any port",
    ),
    unneeded(&["dscp"], "packets are not marked for routers, and the time is the same"),
    left_out(&["ntpsigndsocket"], "requests of Windows clients (MS-SNTP) are not signed"),
    left_out(&["ntsntpserver"], "clients that exchange keys with this node ask it for the time, too"),
    left_out(&["nocerttimecheck"], "expired certificates are never accepted"),
    unneeded(
        &["rtcfile"],
        "the drift of the hardware clock is shown, but not corrected; with rtc.mode Verified the agent writes it and reads it back",
    ),
    left_out(&["rtcautotrim"], "rtc.mode Verified writes the hardware clock whenever it is off"),
    left_out(&["ptpport", "ptpdomain"], "NTP is not sent over PTP"),
    left_out(
        &["broadcast"],
        "there is no broadcast mode: an attacker who forges one packet could change all clocks",
    ),
];

/// Options of `server`, `pool` and `peer`, with the number of words that follow each.
pub(super) const OF_SERVER: &[(&str, usize, Fate, &str)] = &[
    (
        "auto_offline",
        0,
        Unneeded,
        "a server that is unreachable is still asked, at its longest poll interval",
    ),
    ("extfield", 1, Unneeded, "extension fields are used if both sides support them"),
    ("filter", 1, Unneeded, "all measurements are used, with weights by their quality"),
    ("maxdelayratio", 1, Unneeded, "replies with a long delay have less weight"),
    ("maxdelaydevratio", 1, Unneeded, "replies with a long delay have less weight"),
    ("maxdelayquant", 1, Unneeded, "replies with a long delay have less weight"),
    ("maxdelay", 1, LeftOut, "there is no fixed limit; replies with a long delay have less weight"),
    ("maxsamples", 1, Unneeded, "it tunes chronyd's estimates"),
    ("minsamples", 1, Unneeded, "it tunes chronyd's estimates"),
    ("maxunreach", 1, Unneeded, "the error of an old measurement decides how long it counts"),
    ("polltarget", 1, Unneeded, "it tunes chronyd's estimates"),
    ("presend", 1, Unneeded, "no packet is sent ahead of a request"),
    ("asymmetry", 1, LeftOut, "the asymmetry of delays cannot be configured"),
    ("certset", 1, LeftOut, "there is one set of certificates per upstream"),
    ("copy", 0, LeftOut, "stratum and reference id of a server are not copied"),
    ("ipv4", 0, LeftOut, "addresses of both families are asked"),
    ("ipv6", 0, LeftOut, "addresses of both families are asked"),
    ("mindelay", 1, LeftOut, "the smallest delay is measured"),
    ("minstratum", 1, LeftOut, "servers are not chosen by stratum"),
    ("offline", 0, Unneeded, "every upstream is asked from the start, as after `chronyc online`"),
    ("offset", 1, LeftOut, "a source's offset cannot be corrected by hand"),
];

/// Options of `refclock PHC`, with the number of words that follow each.
pub(super) const OF_DEVICE: &[(&str, usize, Fate, &str)] = &[
    ("dpoll", 1, Unneeded, "several readings are taken at each poll"),
    ("filter", 1, Unneeded, "several readings are taken at each poll"),
    ("refid", 1, Unneeded, "a device's reference id is PHC0, PHC1 and so on"),
    ("precision", 1, Unneeded, "it is measured"),
    ("maxsamples", 1, Unneeded, "it tunes chronyd's estimates"),
    ("minsamples", 1, Unneeded, "it tunes chronyd's estimates"),
    ("maxdispersion", 1, LeftOut, "readings that took long have less weight"),
    ("delay", 1, Unneeded, "the duration of a reading is measured"),
];

/// The defaults of options of `server` and `refclock`.
pub(super) const SERVER_DEFAULTS: &[(&str, f64)] =
    &[("offset", 0.0), ("minstratum", 0.0), ("maxdelay", 3.0), ("mindelay", 0.0)];
pub(super) const DEVICE_DEFAULTS: &[(&str, f64)] =
    &[("offset", 0.0), ("stratum", 0.0), ("delay", 1e-9), ("maxdispersion", 0.0)];
