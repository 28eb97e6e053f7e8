//! Turns the `server`, `pool` and `peer` lines of both programs into upstreams. Each option is carried over, or gets a
//! remark.
use std::net::IpAddr;

use contract::HostText;
use profile::{
    Upstream,
    ranges::{NTP_PORT, POLL},
};

use crate::{draft::Draft, lines::Line};

/// An unfinished upstream.
#[derive(Debug)]
pub(super) struct Source {
    /// The upstream so far.
    pub(super) upstream: Upstream,
    polls: (Option<i8>, Option<i8>),
}

/// The default poll intervals of both programs, log2 seconds. The agent's defaults are shorter, so these are written
/// out.
const POLLS: (i8, i8) = (6, 10);

impl Source {
    /// Starts an upstream at `host`. The kind of `host` depends on the line's directive: `server`, `pool` or `peer`.
    pub(super) fn new(directive: &str, host: &str) -> Self {
        let said = |directive_is: &str| (directive == directive_is).then(|| host.to_owned());
        let upstream = Upstream {
            name: String::new(),
            server: said("server"),
            pool: said("pool"),
            max_sources: None,
            peer: said("peer"),
            device: None,
            port: NTP_PORT,
            iburst: false,
            burst: false,
            interleaved: false,
            prefer: false,
            trust: false,
            require: false,
            noselect: false,
            min_poll: POLLS.0,
            max_poll: POLLS.1,
            key: None,
            nts: None,
        };
        Self { upstream, polls: (None, None) }
    }

    /// The same for a host as written in a line, possibly with brackets and a port. Neither program allows these, but
    /// they occur in files; the port goes into its field. `check` checks the rest.
    pub(super) fn of_host(directive: &str, text: &str) -> Self {
        let (host, port) = host_and_port(text);
        let mut source = Self::new(directive, &host);
        source.upstream.port = port.unwrap_or(source.upstream.port);
        source
    }

    /// Sets the poll intervals, unless options set them.
    pub(super) fn set_polls(&mut self, min: i8, max: i8) {
        self.polls = (Some(min), Some(max));
    }

    /// Reads an option that both programs have. Returns true if `option` is one.
    pub(super) fn common(&mut self, option: &str, words: &mut Words<'_>, draft: &mut Draft<'_>) -> bool {
        let line = words.line;
        match option {
            "iburst" => self.upstream.iburst = true,
            "burst" => self.upstream.burst = true,
            "prefer" => self.upstream.prefer = true,
            "noselect" => self.upstream.noselect = true,
            "minpoll" => self.polls.0 = poll(option, words, draft),
            "maxpoll" => self.polls.1 = poll(option, words, draft),
            "port" => {
                if let Some(port) = words.number(option, draft) {
                    self.upstream.port = port;
                }
            }
            "version" => {
                let version = words.next().unwrap_or_default();
                if version != "4" {
                    draft.note(
                        line,
                        "version: requests have version 4, which servers of version 3 answer, too",
                    );
                }
            }
            _ => return false,
        }
        true
    }

    /// Completes the upstream. If the shortest poll is above the longest, ntpd uses the longest for both, chronyd the
    /// shortest.
    pub(super) fn finish(mut self, line: &Line<'_>, longest_wins: bool, draft: &mut Draft<'_>) {
        let (min, max) = (self.polls.0.unwrap_or(POLLS.0), self.polls.1.unwrap_or(POLLS.1));
        let (min, max) = match (min > max, longest_wins) {
            (false, _) => (min, max),
            (true, true) => (max, max),
            (true, false) => (min, min),
        };
        (self.upstream.min_poll, self.upstream.max_poll) = (min, max);
        let upstream = &mut self.upstream;
        if upstream.noselect && (upstream.prefer || upstream.trust || upstream.require) {
            draft.note(
                line,
                "with noselect it is never selected, so its other options for selection are not carried over",
            );
            (upstream.prefer, upstream.trust, upstream.require) = (false, false, false);
        }
        draft.add(line, self.upstream);
    }
}

/// A line's host without brackets and port, and the port; a host of another form unchanged.
pub(super) fn host_and_port(text: &str) -> (String, Option<u16>) {
    match HostText::parse(text) {
        Ok(HostText { host, port, .. }) if port.is_some() || text.starts_with('[') => {
            (host.to_string(), port)
        }
        _ => (text.to_owned(), None),
    }
}

/// Returns true if `host` is this node itself.
pub(super) fn is_own(host: &str) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.parse().map_or_else(
        |_| {
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            LOCALHOST.contains(&host.as_str())
        },
        is_loopback,
    )
}

/// The names for it in RFC 6761 §6.3 and in /etc/hosts of distributions.
const LOCALHOST: [&str; 6] =
    ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];

/// Handles an upstream that is this node itself: neither program follows itself (RFC 5905 §5.4, the reference id shows
/// a loop). `serves_local` is true if another line makes the server serve the node's own clock, which is the purpose of
/// such lines.
pub(super) fn leave_out_own(line: &Line<'_>, program: &str, serves_local: bool, draft: &mut Draft<'_>) {
    let why =
        format!("the whole upstream: it is this node itself, and {program} does not use itself as a source");
    if serves_local {
        draft.note(
            line,
            format!("{why}, so the line had no effect. Use stratum.local to serve the node's own clock"),
        );
    } else {
        draft.leave_out(
            line,
            format!("{why}. To serve the node's own clock write stratum.local; if another program serves time on this node, \
                     name its own port or address"),
        );
    }
}

/// Returns true if `word` is a number and equal to this one.
pub(super) fn is_number(word: Option<&str>, number: f64) -> bool {
    word.and_then(|word| word.parse::<f64>().ok()).is_some_and(|given| (given - number).abs() < 1e-15)
}

/// The number after `option`, limited to the range of a poll; if it is missing or was changed, there is a remark.
pub(super) fn poll(option: &str, words: &mut Words<'_>, draft: &mut Draft<'_>) -> Option<i8> {
    let asked: i64 = words.number(option, draft)?;
    let given = asked.clamp(POLL.least.into(), POLL.most.into());
    if given != asked {
        draft.leave_out(
            words.line,
            format!("{option} {asked}: the range of polls is {POLL}, so it becomes {given}"),
        );
    }
    i8::try_from(given).ok()
}

/// The words of a line that are not yet read.
#[derive(Debug)]
pub(super) struct Words<'l> {
    pub(super) line: &'l Line<'l>,
    at: usize,
}

impl<'l> Words<'l> {
    /// All words after the directive.
    pub(super) fn new(line: &'l Line<'l>) -> Self {
        Self { line, at: 0 }
    }

    /// The next word.
    pub(super) fn next(&mut self) -> Option<&'l str> {
        let word = self.line.words.get(self.at).copied();
        self.at += 1;
        word
    }

    /// The next word, which stays unread.
    pub(super) fn peek(&self) -> Option<&'l str> {
        self.line.words.get(self.at).copied()
    }

    /// Adds a remark if words are left, since the line allows no more.
    pub(super) fn end(&mut self, draft: &mut Draft<'_>) {
        while let Some(word) = self.next() {
            let word = crate::lines::printable(word);
            draft.leave_out(self.line, format!("{word:?}: this line does not take that word"));
        }
    }

    /// Skips this number of words.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// The next word, if it is a number; if not, `option` is left out with a remark.
    pub(super) fn number<N: std::str::FromStr>(&mut self, option: &str, draft: &mut Draft<'_>) -> Option<N> {
        let word = self.next();
        let number = word.and_then(|word| word.parse().ok());
        if number.is_none() {
            draft.leave_out(self.line, format!("{option}: its value is not a valid number"));
        }
        number
    }
}
