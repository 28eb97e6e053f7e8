//! CEL rules over more than one field, which the API server evaluates before it stores an object, and the patterns of
//! single fields. Each message says what to do. `policy` defines the fields.
//!
//! The API server rejects a CRD whose rules could cost too much. So lists and strings have limits, and some rules are
//! written in an unusual way (`!(ip(a) == ip(b))` is a hundred times cheaper than `!=`).

/// Durations: `10ms`, `1000s`, `1m30s`. At most six digits, since with more CEL's `duration()` fails with an error.
pub const SPAN: &str = r"^([0-9]{1,6}(\.[0-9]{1,6})?(us|ms|s|m|h)){1,4}$";

/// The approximate form of the source of a `restrict` entry. `SOURCE_FORM` checks the rest.
pub const SOURCE: &str = r"^(default|source|[0-9A-Fa-f:.]+(/[0-9]{1,3})?)$";

/// Percentages of nodes.
pub const PERCENTAGE: &str = "^([1-9][0-9]?|100)%$";

/// Names of upstreams, which are labels of metrics and keys of lists.
pub const UPSTREAM_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Only PTP clocks: opening another device, such as a watchdog, can start it.
pub const DEVICE: &str = "^/dev/ptp[A-Za-z0-9_]{1,32}$";

/// Names of Secrets, as in Kubernetes.
pub const SECRET_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Keys in the data of a Secret, as in Kubernetes. The name of the Secret, `_` and the key are the name of a file on
/// the nodes, of at most 253 characters. Names of Secrets have no `_`.
pub const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// The name is the first part of a profile's name, which is a file name and a key of a ConfigMap.
pub const NAME_LENGTH: &str = "size(self.metadata.name) <= 63";

/// Clocks can only be corrected if there is a source of time.
pub const SOMETHING_TO_FOLLOW: &str = "self.mode != 'Discipline' \
     || (has(self.upstreams) && self.upstreams.exists(u, !u.noselect)) || (has(self.stratum) && has(self.stratum.local))";

/// With two preferred upstreams neither would be preferred.
pub const ONE_PREFERRED: &str = "!has(self.upstreams) || self.upstreams.filter(u, u.prefer).size() <= 1";

/// True if two texts are the same host: in DNS neither case nor the final dot matters, and an IPv6 address has several
/// spellings. The agent detects names that resolve to one server.
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

/// A server that is listed twice, or as server and peer, would have two votes.
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

/// The same for pools and devices.
pub const NO_PLACE_TWICE: &str = concat!(
    "!has(self.upstreams) || self.upstreams.all(u, (!has(u.pool) || self.upstreams.filter(v, v.port == u.port && ",
    "has(v.pool) && ",
    same_host!("v.pool", "u.pool"),
    ").size() == 1) && (!has(u.device) || ",
    "self.upstreams.filter(v, has(v.device) && v.device == u.device).size() == 1))"
);

/// Each node of an upstream with nodes is an upstream of its own.
pub const NOT_TOO_MANY_NODES: &str = "!has(self.upstreams) \
     || self.upstreams.map(u, has(u.nodes) ? u.nodes.max : 1).sum() <= 16";

/// The nodes of `tier` have the names `tier-1` to `tier-8`.
pub const NO_NAME_OF_A_NODE: &str = "!has(self.upstreams) || self.upstreams.all(u, !has(u.nodes) \
     || !self.upstreams.exists(v, v.name.size() == u.name.size() + 2 && v.name.startsWith(u.name + '-') \
     && v.name.matches('-[1-8]$')))";

/// minSources must not be larger than the number of sources.
pub const ENOUGH_SOURCES: &str = "!has(self.clock) || !has(self.clock.minSources) || !has(self.upstreams) \
     || self.clock.minSources <= 1 || self.clock.minSources <= self.upstreams.filter(u, !u.noselect)\
     .map(u, has(u.pool) ? (has(u.maxSources) ? u.maxSources : 4) : has(u.nodes) ? u.nodes.max : 1).sum()";

/// Exactly one of the places is set.
pub const ONE_PLACE: &str = "(has(self.server) ? 1 : 0) + (has(self.pool) ? 1 : 0) + (has(self.peer) ? 1 : 0) \
     + (has(self.nodes) ? 1 : 0) + (has(self.device) ? 1 : 0) == 1";

/// Nodes are asked at their addresses, and certificates are for names.
pub const NO_NTS_OF_NODES: &str = "!has(self.nodes) || !has(self.nts)";

/// At most one source may be preferred, and nodes are several sources.
pub const NO_PREFERRED_NODES: &str = "!has(self.nodes) || !self.prefer";

/// The names of the nodes are two characters longer.
pub const NAME_OF_NODES: &str = "!has(self.nodes) || size(self.name) <= 30";

/// Only a pool has more than one server.
pub const MAX_SOURCES_OF_POOL: &str = "!has(self.maxSources) || has(self.pool)";

/// The other three options are about selection.
pub const NOSELECT_ALONE: &str = "!self.noselect || !(self.prefer || self.trust || self.require)";

/// An upstream has one kind of authentication.
pub const ONE_PROOF: &str = "!has(self.nts) || !has(self.keyRef)";

/// A device of the node cannot be forged over the network.
pub const NO_PROOF_OF_DEVICE: &str = "!has(self.device) || !(has(self.nts) || has(self.keyRef))";

/// Certificates are for names.
pub const NTS_NEEDS_NAME: &str =
    "!has(self.nts) || (!has(self.server) || !isIP(self.server)) && (!has(self.peer) || !isIP(self.peer))";

/// An address, or a host name whose last label begins with a letter. This rejects `010.1.1.1` and `0x7f000001`, which
/// resolvers interpret differently from users, and `::ffff:10.1.1.1`, which the agent's sockets cannot reach.
pub const SERVER: &str = "isIP(self) || \
     self.matches('^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.]?$')";

/// The host of `fe80::1` depends on the interface, which a policy cannot name. A link-local IPv4 address is routed like
/// any other: 169.254.169.123 is Amazon's time service. The rule checks the text instead of the address, since that
/// costs less.
pub const NOT_LINK_LOCAL: &str = "!self.matches('^[Ff][Ee][89ABab][0-9A-Fa-f]:')";

/// An unspecified address is the node itself, and a broadcast or multicast address is not one server. The agent checks
/// the addresses of names.
pub const ONE_SERVER: &str = "!isIP(self) \
     || !self.matches('^([0:.]+|255[.]255[.]255[.]255|2(2[4-9]|3[0-9])[.].*|[Ff][Ff][0-9A-Fa-f]{2}:.*)$')";

/// The addresses of clock drivers in ntp.conf: `127.127.1.0` is the system clock.
pub const NO_CLOCK_DRIVER: &str = "!isIP(self) || !self.startsWith('127.127.')";

/// A host name only: an address is not several servers.
pub const POOL: &str = "!isIP(self) && \
     self.matches('^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?[.]?$')";

/// The entry that applies to an upstream's address must not have `ignore`. The most specific entry applies. An entry
/// for `source` is as specific as one for the address itself (also written as /32 or /128), which takes precedence over
/// it. Host names cannot be checked here.
pub const UPSTREAM_NOT_IGNORED: &str = "!has(self.upstreams) || !has(self.restrict) \
     || self.upstreams.map(u, has(u.server) ? u.server : has(u.peer) ? u.peer : '').all(a, !isIP(a) \
     || self.restrict.exists(s, isIP(s.source) && ip(s.source) == ip(a) && !('ignore' in s.flags)) \
     || self.restrict.all(r, !('ignore' in r.flags) \
     || isIP(r.source) && !(ip(r.source) == ip(a)) \
     || isCIDR(r.source) && !cidr(r.source).containsIP(ip(a)) \
     || !isIP(r.source) && self.restrict.exists(s, s.source == 'source' && !r.source.matches('^[0-9.]+/32$|/128$') \
     || isCIDR(s.source) && cidr(s.source).containsIP(ip(a)) \
     && (r.source == 'default' || cidr(s.source).prefixLength() > cidr(r.source).prefixLength()))))";

/// Host names cannot be checked, but if every entry has `ignore` and one of them is `default`, the replies of every
/// address are dropped.
pub const NOT_ALL_IGNORED: &str = "!has(self.upstreams) || !has(self.restrict) \
     || self.restrict.exists(r, !('ignore' in r.flags)) || self.upstreams.all(u, has(u.device) \
     || has(u.server) && isIP(u.server) || has(u.peer) && isIP(u.peer) || !self.restrict.exists(r, \
     r.source == 'default' && (u.port == 123 || !('ntpport' in r.flags))))";

/// The allowed sources of a `restrict` entry.
pub const SOURCE_FORM: &str =
    "self.source == 'default' || self.source == 'source' || isIP(self.source) || isCIDR(self.source)";

/// The purpose of the template is to accept replies.
pub const TEMPLATE_ANSWERS: &str = "self.source != 'source' || !('ignore' in self.flags)";

/// The template applies to every port.
pub const TEMPLATE_ANY_PORT: &str = "self.source != 'source' || !('ntpport' in self.flags)";

/// `10.1.2.3/8` is a mistake: the user means either the host or the network.
pub const NO_HOST_BITS: &str = "!isCIDR(self.source) || cidr(self.source) == cidr(self.source).masked()";

/// A node can have each of them. The texts are compared as in [`ONE_SERVER`] and [`NOT_LINK_LOCAL`]; the unspecified addresses
/// stand for all addresses of their family.
pub const SERVE_ADDRESSES: &str = "!has(self.addresses) || self.addresses.all(a, isIP(a) \
     && !a.matches('^([Ff][Ee][89ABab][0-9A-Fa-f]:|255[.]255[.]255[.]255$|2(2[4-9]|3[0-9])[.]|[Ff][Ff][0-9A-Fa-f]{2}:)'))";

/// An IPv6 address has several spellings.
pub const NO_ADDRESS_TWICE: &str = "!has(self.addresses) || self.addresses.all(a, !isIP(a) \
     || self.addresses.filter(b, isIP(b) && ip(b) == ip(a)).size() == 1)";

/// The elected node serves at this stratum. With 1 every good server would count as an orphan, and a node that follows
/// has the next stratum, so 15 is too large.
pub const ORPHAN_LOCAL: &str = "!self.orphan || has(self.local) && self.local >= 2 && self.local <= 14";

/// An election needs other nodes.
pub const ORPHAN_NEEDS_OTHERS: &str = "!has(self.stratum) || !self.stratum.orphan \
     || has(self.upstreams) && self.upstreams.exists(u, !u.noselect)";

/// activateAfter has an effect only with local.
pub const ACTIVATION_NEEDS_LOCAL: &str = "!has(self.activateAfter) || has(self.local)";

/// A longer wait would mean that the clock is never served.
pub const ACTIVATION_RANGE: &str =
    "!has(self.activateAfter) || duration(self.activateAfter) <= duration('24h')";

/// Otherwise the first step would be refused. An absent threshold is 10ms.
pub const STEP_WITHIN_MAX_CHANGE: &str =
    "duration(has(self.step) ? self.step.threshold : '10ms') <= duration(self.maxChange)";

/// With a threshold of 0 every offset would be a step.
pub const STEP_POSITIVE: &str = "duration(self.threshold) > duration('0s')";

/// The longest duration with six digits.
pub const MAX_CHANGE_RANGE: &str = "duration(self.maxChange) <= duration('999999h')";

/// With a smaller limit no server would be usable. A server of 16 s or more counts as unsynchronised (RFC 5905 §7.2).
pub const DISTANCE_RANGE: &str =
    "duration(self.maxDistance) >= duration('1ms') && duration(self.maxDistance) <= duration('16s')";

/// Names as in the time zone database: one to three words of letters, digits, `_`, `+` and `-`, of which the first
/// begins with a letter. So a name cannot leave the folder or be a hidden file. `localtime` would be a link to itself.
pub const TIMEZONE: &str = "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}$') \
     && self != 'localtime'";

/// The system clock does not count leap seconds (POSIX). With such a zone local time would be 27 s behind.
pub const TIMEZONE_OF_CLOCK: &str = "!self.startsWith('right/')";

/// With a shorter time every brief deviation would be reported, with a longer one none.
pub const HOLD_RANGE: &str =
    "duration(self.hold) >= duration('1s') && duration(self.hold) <= duration('24h')";

/// With a shorter time no stage could show anything, with a longer one a rollout would not end.
pub const SETTLE_RANGE: &str =
    "duration(self.settle) >= duration('1s') && duration(self.settle) <= duration('24h')";

/// With a bound of 0 no clock is ever synchronised.
pub const THRESHOLDS_POSITIVE: &str = "duration(self.offset) > duration('0s') \
     && duration(self.errorBound) > duration('0s') && duration(self.spread) > duration('0s')";

/// The same limit as for maxChange.
pub const THRESHOLDS_RANGE: &str = "duration(self.offset) <= duration('999999h') \
     && duration(self.errorBound) <= duration('999999h') && duration(self.spread) <= duration('999999h')";

/// With a longer time, a node would in practice never be tainted.
pub const TAINT_AFTER_RANGE: &str = "duration(self.after) <= duration('24h')";

/// The same rule as in the selectors of Kubernetes.
pub const SELECTOR_VALUES: &str = "self.operator in ['Exists', 'DoesNotExist'] \
     ? !has(self.values) || size(self.values) == 0 : has(self.values) && size(self.values) > 0";

/// A valid key of a label; any other one matches no node. Lengths have their own pattern, so that neither pattern
/// becomes long.
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

/// A valid value of a label. The schema limits its length.
macro_rules! label_value {
    ($value:literal) => {
        concat!($value, ".matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')")
    };
}

/// Keys in a map have no schema of their own.
pub const SELECTOR_LABEL_KEYS: &str =
    concat!("!has(self.matchLabels) || self.matchLabels.all(key, ", label_key!("key"), ")");

/// One rule for all values: in the message of a rule on each value, the API server would not name the key.
pub const SELECTOR_LABEL_VALUES: &str = concat!(
    "!has(self.matchLabels) || self.matchLabels.all(key, ",
    label_value!("self.matchLabels[key]"),
    ")"
);

/// The key of a requirement must be a valid key of a label.
pub const SELECTOR_KEY: &str = label_key!("self.key");

/// The values of a requirement must be valid values of a label. `Exists` and `DoesNotExist` have no values.
pub const SELECTOR_VALUES_FORM: &str =
    concat!("!has(self.values) || self.values.all(value, ", label_value!("value"), ")");
