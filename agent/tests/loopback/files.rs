//! The files that the tests hand to the agent.
use contract::ProfileName;

use crate::bench::Volume;

/// An agent's file with a profile: quick polls of a chronyd on `upstream`, time served on `served`.
pub(crate) fn alone(upstream: u16, served: u16) -> String {
    alone_with("", upstream, served)
}

/// The same, with more lines in its first table.
pub(crate) fn alone_with(lines: &str, upstream: u16, served: u16) -> String {
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n{lines}\
         [profile]\nmode = \"Observe\"\n\
         [[profile.upstreams]]\nname = \"a\"\nserver = \"127.0.0.1\"\nport = {upstream}\niburst = true\n\
         minPoll = 0\nmaxPoll = 2\n\
         [profile.serve]\nport = {served}\n"
    )
}

/// An agent's file without upstreams: this machine's own clock, served at stratum 5 on `port`.
pub(crate) fn serving_own_clock(port: u16) -> String {
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n\
         [profile]\nmode = \"Observe\"\n[profile.stratum]\nlocal = 5\nactivateAfter = \"0s\"\n[profile.serve]\nport = {port}\n"
    )
}

/// An agent's file that watches `volume`.
pub(crate) fn watching(volume: &Volume) -> String {
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\n[agent.watch]\ndirectory = \"{}\"\n",
        volume.path().display()
    )
}

/// A profile of policy `p`, and its name.
pub(crate) fn profile(upstream: u16, served: u16, more: &str) -> (ProfileName, String) {
    let text = format!(
        "mode = \"Observe\"\n\
         [[upstreams]]\nname = \"a\"\nserver = \"127.0.0.1\"\nport = {upstream}\niburst = true\n\
         minPoll = 0\nmaxPoll = 2\n\
         [serve]\nport = {served}\n{more}"
    );
    (ProfileName::of("p", &text), text)
}
