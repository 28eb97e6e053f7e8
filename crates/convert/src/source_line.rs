//! `server`, `pool` and `peer` lines of both programs in, upstreams out. Each option is carried over, or said.
use std::net::IpAddr;

use contract::HostText;
use profile::{
    Upstream,
    ranges::{NTP_PORT, POLL},
};

use crate::{draft::Draft, lines::Line};

/// An upstream on its way.
#[derive(Debug)]
pub(super) struct Source {
    /// What there is of it.
    pub(super) upstream: Upstream,
    polls: (Option<i8>, Option<i8>),
}

/// What both programs poll by if nothing is said, log2 seconds. Ours are shorter, so these are written out.
const POLLS: (i8, i8) = (6, 10);

impl Source {
    /// What `host` is, is told by the line's directive: `server`, `pool` or `peer`.
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

    /// The same for a host as a line has it, whose brackets and port are of no program's configuration and are met all
    /// the same: the port goes into its field. `check` judges all else of it.
    pub(super) fn of_host(directive: &str, text: &str) -> Self {
        let (host, port) = host_and_port(text);
        let mut source = Self::new(directive, &host);
        source.upstream.port = port.unwrap_or(source.upstream.port);
        source
    }

    /// How often it is asked, unless its options say otherwise.
    pub(super) fn set_polls(&mut self, min: i8, max: i8) {
        self.polls = (Some(min), Some(max));
    }

    /// Takes an option that both programs have. Returns true if `option` is one.
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

    /// The upstream is complete. Of a shortest poll above the longest `ntp` takes the longest for both, chronyd the
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

/// A line's host without brackets and port, and the port; a host of another form as it stands.
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

/// What /etc/hosts of distributions and RFC 6761 §6.3 call it.
const LOCALHOST: [&str; 6] =
    ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];

/// An upstream that is this node itself: neither program takes time from itself (RFC 5905 §5.4, the reference id tells a
/// loop). `serves_local` is whether another line has the node's own clock served, which is what such lines are meant for.
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

/// The number behind `option`, as near to it as a poll can be; if there is none, or another one, that is said.
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

/// The words of a line that are still to be read.
#[derive(Debug)]
pub(super) struct Words<'l> {
    pub(super) line: &'l Line<'l>,
    at: usize,
}

impl<'l> Words<'l> {
    /// All words behind the directive.
    pub(super) fn new(line: &'l Line<'l>) -> Self {
        Self { line, at: 0 }
    }

    /// The next word.
    pub(super) fn next(&mut self) -> Option<&'l str> {
        let word = self.line.words.get(self.at).copied();
        self.at += 1;
        word
    }

    /// The next word, which is to be read again.
    pub(super) fn peek(&self) -> Option<&'l str> {
        self.line.words.get(self.at).copied()
    }

    /// Whatever is left is more than the line can say.
    pub(super) fn end(&mut self, draft: &mut Draft<'_>) {
        while let Some(word) = self.next() {
            let word = crate::lines::printable(word);
            draft.leave_out(self.line, format!("{word:?}: this line does not take that word"));
        }
    }

    /// Passes over this number of words.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// The next word, if it is a number; if not, that is said of `option`, which is left out.
    pub(super) fn number<N: std::str::FromStr>(&mut self, option: &str, draft: &mut Draft<'_>) -> Option<N> {
        let word = self.next();
        let number = word.and_then(|word| word.parse().ok());
        if number.is_none() {
            draft.leave_out(self.line, format!("{option}: its value is not a valid number"));
        }
        number
    }
}
