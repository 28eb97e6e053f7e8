//! Several names of one server, looked up by the system's resolver.
use contract::SourceState;

use crate::{
    bench::{Agent, Chronyd, Folder, free_udp_port, wait_for},
    files,
};

#[test]
fn a_name_of_a_server_that_counts_already_has_no_vote() {
    let folder = Folder::new();
    let (upstream, served) = (Chronyd::start(&folder, 3), free_udp_port());
    let named = |more: &str| {
        let port = upstream.port;
        format!(
            "[[profile.upstreams]]\nname = \"b\"\nserver = \"localhost\"\nport = {port}\niburst = true\n{more}"
        )
    };
    let alone = files::alone(upstream.port, served);
    let agent = Agent::start(&folder, &(alone.clone() + &named("")));
    wait_for("synchronized", || agent.report().clock.synchronized);
    let why = |of: &str| format!("Same server as {of} at 127.0.0.1:{}, which counts already", upstream.port);
    let source = |index: usize| agent.report().sources.swap_remove(index);
    wait_for("the duplicate told", || source(1).message.starts_with(&why("a")));
    assert_eq!((source(1).state, source(1).reach), (SourceState::Unusable, 0));
    // The other one counts once it is required; what was measured goes on.
    agent.rewrite(&(alone + &named("require = true\n")));
    wait_for("the other one counts", || source(0).message.starts_with(&why("b")));
    wait_for("it is followed", || source(1).state == SourceState::Selected);
    let report = agent.report();
    assert!(report.clock.synchronized && report.clock.reference.as_deref() == Some("b"), "{report:?}");
}
