//! Why the time zone is not as desired, as messages for users.

/// Why the time zone is not as desired.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the host has no time zone {0:?}: there is no such file in /usr/share/zoneinfo")]
    NoZone(String),
    #[error("{0} is neither a link nor a small plain file: left alone")]
    Strange(&'static str),
    #[error(
        "{0} cannot be changed: the node's files are read-only for this agent; set the zone on the node, or set \
         agent.privileged: true in the chart's values"
    )]
    ReadOnly(&'static str),
    #[error("{path}: {source}")]
    Files { path: &'static str, source: std::io::Error },
    #[error("the former time zone cannot be kept, so it is left alone: {0}")]
    Keep(#[from] crate::state::Error),
    #[error("what was kept of the former time zone is damaged, so it is left alone")]
    Damaged,
    #[error("another process changes /etc/localtime again and again: it is left alone")]
    Contested,
}
