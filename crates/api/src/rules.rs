//! Rules over more than one field, in CEL, as the API server evaluates them before an object is stored; and the
//! patterns of single fields. Each message says what to do. Names and shapes of fields are `policy`'s.
//!
//! The API server refuses a CRD whose rules could cost too much: that is why lists and strings have limits, and why
//! a rule here is sometimes written in a roundabout way (`!(ip(a) == ip(b))` is a hundred times cheaper than `!=`).

/// Spans of time: `10ms`, `1000s`, `1m30s`. Six digits at most, else CEL's `duration()` fails instead of judging.
pub const SPAN: &str = r"^([0-9]{1,6}(\.[0-9]{1,6})?(us|ms|s|m|h)){1,4}$";

/// The source of a `restrict` entry, roughly; the rule beside it says the rest.
pub const SOURCE: &str = r"^(default|source|[0-9A-Fa-f:.]+(/[0-9]{1,3})?)$";

/// Names of upstreams: a label in metrics, a key in lists.
pub const UPSTREAM_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// PTP clocks only: to open some other device, a watchdog for instance, is to start it.
pub const DEVICE: &str = "^/dev/ptp[A-Za-z0-9_]{1,32}$";

/// Names of Secrets, as Kubernetes has them.
pub const SECRET_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Keys in the data of a Secret, as Kubernetes has them. With the Secret's name and `_` before it a key names a file on
/// the nodes, of 253 characters at most; no Secret's name has a `_`.
pub const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// The name becomes the first half of a profile's name, which is a file name and a ConfigMap key.
pub const NAME_LENGTH: &str = "size(self.metadata.name) <= 63";

/// Somebody has to say what time it is, if clocks are to be moved.
pub const SOMETHING_TO_FOLLOW: &str = "self.mode != 'Discipline' \
     || (has(self.upstreams) && self.upstreams.exists(u, !u.noselect)) || (has(self.stratum) && has(self.stratum.local))";

/// Two preferred upstreams would be none.
pub const ONE_PREFERRED: &str = "!has(self.upstreams) || self.upstreams.filter(u, u.prefer).size() <= 1";

/// Two texts name one host: DNS knows neither case nor the final dot, and an IPv6 address has several spellings. Names
/// that turn out to be one server are the agent's affair.
macro_rules! same_host {
    ($one:literal, $two:literal) => {
        concat!(
            "(",
            $one,
            ".lowerAscii() == ",
            $two,
            ".lowerAscii() || ",
            $one,
            ".lowerAscii() + '.' == ",
            $two,
            ".lowerAscii() || ",
            $one,
            ".lowerAscii() == ",
            $two,
            ".lowerAscii() + '.' || ",
            "isIP(",
            $one,
            ") && isIP(",
            $two,
            ") && ip(",
            $one,
            ") == ip(",
            $two,
            "))"
        )
    };
}

/// A server that is listed twice would have two votes, also where it is a peer once.
pub const NO_SERVER_TWICE: &str = concat!(
    "!has(self.upstreams) || self.upstreams.all(u, (!has(u.server) || self.upstreams.filter(v, v.port == u.port && ",
    "has(v.server) && ",
    same_host!("v.server", "u.server"),
    ").size() == 1) && (!has(u.peer) || self.upstreams.filter(v, v.port == u.port && (has(v.peer) && ",
    same_host!("v.peer", "u.peer"),
    " || has(v.server) && ",
    same_host!("v.server", "u.peer"),
    ")).size() == 1))"
);

/// So would a pool, or a device.
pub const NO_PLACE_TWICE: &str = concat!(
    "!has(self.upstreams) || self.upstreams.all(u, (!has(u.pool) || self.upstreams.filter(v, v.port == u.port && ",
    "has(v.pool) && ",
    same_host!("v.pool", "u.pool"),
    ").size() == 1) && (!has(u.device) || ",
    "self.upstreams.filter(v, has(v.device) && v.device == u.device).size() == 1))"
);

/// More than there are can never agree.
pub const ENOUGH_SOURCES: &str = "!has(self.clock) || !has(self.clock.minSources) || !has(self.upstreams) \
     || self.clock.minSources <= 1 || self.clock.minSources <= self.upstreams.filter(u, !u.noselect)\
     .map(u, has(u.pool) ? (has(u.maxSources) ? u.maxSources : 4) : 1).sum()";

/// Where an upstream's time comes from.
pub const ONE_PLACE: &str = "(has(self.server) ? 1 : 0) + (has(self.pool) ? 1 : 0) + (has(self.peer) ? 1 : 0) \
     + (has(self.device) ? 1 : 0) == 1";

/// A server or a device is one.
pub const MAX_SOURCES_OF_POOL: &str = "!has(self.maxSources) || has(self.pool)";

/// These three say how it is followed.
pub const NOSELECT_ALONE: &str = "!self.noselect || !(self.prefer || self.trust || self.require)";

/// One proof is enough.
pub const ONE_PROOF: &str = "!has(self.nts) || !has(self.keyRef)";

/// A device of the node cannot be forged from afar.
pub const NO_PROOF_OF_DEVICE: &str = "!has(self.device) || !(has(self.nts) || has(self.keyRef))";

/// A certificate proves a name.
pub const NTS_NEEDS_NAME: &str =
    "!has(self.nts) || (!has(self.server) || !isIP(self.server)) && (!has(self.peer) || !isIP(self.peer))";

/// An address, or a host name whose last label begins with a letter. So `010.1.1.1` and `0x7f000001`, which resolvers
/// read as other addresses than people do, are refused, and so is `::ffff:10.1.1.1`, which no socket of ours meets.
pub const SERVER: &str = "isIP(self) || \
     self.matches('^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.]?$')";

/// The host behind `fe80::1` depends on the interface, which no policy names. A link-local IPv4 address is routed as any
/// other: 169.254.169.123 is Amazon's time service. The text is looked at, and not the address, since that costs less.
pub const NOT_LINK_LOCAL: &str = "!self.matches('^[Ff][Ee][89ABab][0-9A-Fa-f]:')";

/// An unspecified address leads back to the node itself, and a broadcast or multicast address is that of many. What names
/// resolve to is looked at on the nodes.
pub const ONE_SERVER: &str = "!isIP(self) \
     || !self.matches('^([0:.]+|255[.]255[.]255[.]255|2(2[4-9]|3[0-9])[.].*|[Ff][Ff][0-9A-Fa-f]{2}:.*)$')";

/// ntp.conf's names for clocks of the machine itself: `127.127.1.0` is the system clock.
pub const NO_CLOCK_DRIVER: &str = "!isIP(self) || !self.startsWith('127.127.')";

/// The same without addresses: one address is not several servers.
pub const POOL: &str = "!isIP(self) && \
     self.matches('^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.]?$')";

/// Of all entries that cover an upstream's address the most specific one alone counts, that for `source` like one for the
/// address itself (also written as /32 or /128), after it; it must not be `ignore`. Host names cannot be judged here.
pub const UPSTREAM_NOT_IGNORED: &str = "!has(self.upstreams) || !has(self.restrict) \
     || self.upstreams.map(u, has(u.server) ? u.server : has(u.peer) ? u.peer : '').all(a, !isIP(a) \
     || self.restrict.exists(s, isIP(s.source) && ip(s.source) == ip(a) && !('ignore' in s.flags)) \
     || self.restrict.all(r, !('ignore' in r.flags) \
     || isIP(r.source) && !(ip(r.source) == ip(a)) \
     || isCIDR(r.source) && !cidr(r.source).containsIP(ip(a)) \
     || !isIP(r.source) && self.restrict.exists(s, s.source == 'source' && !r.source.matches('^[0-9.]+/32$|/128$') \
     || isCIDR(s.source) && cidr(s.source).containsIP(ip(a)) \
     && (r.source == 'default' || cidr(s.source).prefixLength() > cidr(r.source).prefixLength()))))";

/// Host names cannot be judged, but where every entry says `ignore` and one of them is for everybody, no address is let in.
pub const NOT_ALL_IGNORED: &str = "!has(self.upstreams) || !has(self.restrict) \
     || self.restrict.exists(r, !('ignore' in r.flags)) || self.upstreams.all(u, has(u.device) \
     || has(u.server) && isIP(u.server) || has(u.peer) && isIP(u.peer) || !self.restrict.exists(r, \
     r.source == 'default' && (u.port == 123 || !('ntpport' in r.flags))))";

/// What a `restrict` entry may be for.
pub const SOURCE_FORM: &str =
    "self.source == 'default' || self.source == 'source' || isIP(self.source) || isCIDR(self.source)";

/// The template is there to let answers in.
pub const TEMPLATE_ANSWERS: &str = "self.source != 'source' || !('ignore' in self.flags)";

/// It is for whatever comes from there.
pub const TEMPLATE_ANY_PORT: &str = "self.source != 'source' || !('ntpport' in self.flags)";

/// `10.1.2.3/8` is a slip: somebody means either the host or the network.
pub const NO_HOST_BITS: &str = "!isCIDR(self.source) || cidr(self.source) == cidr(self.source).masked()";

/// A node can have each of them. The texts are compared as in [`ONE_SERVER`] and [`NOT_LINK_LOCAL`]; the unspecified addresses
/// stand for all addresses of their family.
pub const SERVE_ADDRESSES: &str = "!has(self.addresses) || self.addresses.all(a, isIP(a) \
     && !a.matches('^([Ff][Ee][89ABab][0-9A-Fa-f]:|255[.]255[.]255[.]255$|2(2[4-9]|3[0-9])[.]|[Ff][Ff][0-9A-Fa-f]{2}:)'))";

/// An IPv6 address has several spellings.
pub const NO_ADDRESS_TWICE: &str = "!has(self.addresses) || self.addresses.all(a, !isIP(a) \
     || self.addresses.filter(b, isIP(b) && ip(b) == ip(a)).size() == 1)";

/// Whoever is elected serves at that stratum: at 1 every good server would look like one of them, and who follows has one
/// more.
pub const ORPHAN_LOCAL: &str = "!self.orphan || has(self.local) && self.local >= 2 && self.local <= 14";

/// An election of one.
pub const ORPHAN_NEEDS_OTHERS: &str = "!has(self.stratum) || !self.stratum.orphan \
     || has(self.upstreams) && self.upstreams.exists(u, !u.noselect)";

/// Without it there is nothing to begin.
pub const ACTIVATION_NEEDS_LOCAL: &str = "!has(self.activateAfter) || has(self.local)";

/// Who waits for longer does not mean to serve.
pub const ACTIVATION_RANGE: &str =
    "!has(self.activateAfter) || duration(self.activateAfter) <= duration('24h')";

/// Otherwise the first step would already be refused. An absent threshold is 10ms.
pub const STEP_WITHIN_MAX_CHANGE: &str =
    "duration(has(self.step) ? self.step.threshold : '10ms') <= duration(self.maxChange)";

/// With a threshold of 0 every offset would be a step.
pub const STEP_POSITIVE: &str = "duration(self.threshold) > duration('0s')";

/// A longer span cannot be written with the digits that a policy takes.
pub const MAX_CHANGE_RANGE: &str = "duration(self.maxChange) <= duration('999999h')";

/// A smaller limit refuses every server; a server of 16 s or more counts as unsynchronised itself (RFC 5905 §7.2).
pub const DISTANCE_RANGE: &str =
    "duration(self.maxDistance) >= duration('1ms') && duration(self.maxDistance) <= duration('16s')";

/// Names as the time zone database has them: one to three words of letters, digits, `_`, `+` and `-`, of which the first
/// begins with a letter. So no path leads out of the folder, or to a hidden file; `localtime` leads back
/// to where it is asked from.
pub const TIMEZONE: &str = "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}$') \
     && self != 'localtime'";

/// The system clock counts as POSIX does, without leap seconds: with such a zone it would show a time 27 s behind.
pub const TIMEZONE_OF_CLOCK: &str = "!self.startsWith('right/')";

/// Shorter, and every blip is told; longer, and nothing is.
pub const HOLD_RANGE: &str =
    "duration(self.hold) >= duration('1s') && duration(self.hold) <= duration('24h')";

/// With a bound of 0 no clock is ever synchronised.
pub const THRESHOLDS_POSITIVE: &str = "duration(self.offset) > duration('0s') \
     && duration(self.errorBound) > duration('0s') && duration(self.spread) > duration('0s')";

/// As of maxChange.
pub const THRESHOLDS_RANGE: &str = "duration(self.offset) <= duration('999999h') \
     && duration(self.errorBound) <= duration('999999h') && duration(self.spread) <= duration('999999h')";

/// As Kubernetes' own selectors.
pub const SELECTOR_VALUES: &str = "self.operator in ['Exists', 'DoesNotExist'] \
     ? !has(self.values) || size(self.values) == 0 : has(self.values) && size(self.values) > 0";

/// A key that a label can have: any other one matches no node. Lengths have a pattern of their own, so that neither gets long.
macro_rules! label_key {
    ($key:literal) => {
        concat!(
            $key,
            ".matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
             ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$') && ",
            $key,
            ".matches('^([^/]{1,253}/)?[^/]{1,63}$')"
        )
    };
}

/// The same of its value; the schema limits the length.
macro_rules! label_value {
    ($value:literal) => {
        concat!($value, ".matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')")
    };
}

/// Keys in a map have no schema of their own.
pub const SELECTOR_LABEL_KEYS: &str =
    concat!("!has(self.matchLabels) || self.matchLabels.all(key, ", label_key!("key"), ")");

/// One rule for all, since a rule on each value of a map has no path to say.
pub const SELECTOR_LABEL_VALUES: &str = concat!(
    "!has(self.matchLabels) || self.matchLabels.all(key, ",
    label_value!("self.matchLabels[key]"),
    ")"
);

/// Of one requirement.
pub const SELECTOR_KEY: &str = label_key!("self.key");

/// `Exists` has none.
pub const SELECTOR_VALUES_FORM: &str =
    concat!("!has(self.values) || self.values.all(value, ", label_value!("value"), ")");
