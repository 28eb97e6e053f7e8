//! `restrict … ignore`: that range gets no answer, another one does. Asked by Debian's chronyd, which sets no clock. And
//! `serve.addresses`: only the addresses of the list are served, a virtual one as soon as a node has it.
use std::time::Duration;

use anyhow::ensure;
use lab::{network, ntp_query, under_test, vm, wait};

use super::chronyd::answered;

/// Two clients; the second one's range is ignored.
const CLIENTS: [(&str, &str); 2] = [("tse2e-open", "172.30.0.220"), ("tse2e-shut", "172.30.0.222")];
/// How long a query by chronyd waits for an answer (s): for none, and for one that must come.
const LIMIT: &str = "6";
const AMPLE: &str = "30";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    for (namespace, address) in CLIENTS {
        network::namespace(namespace, &[address])?;
    }
    let ask = format!("server {} iburst", vm::VMS[0].address());
    ensure!(
        answered(CLIENTS[0].0, AMPLE, &[&ask])? && answered(CLIENTS[1].0, AMPLE, &[&ask])?,
        "both get answers at first"
    );
    under_test::apply_four(
        "  restrict:\n  - {source: default}\n  - {source: 172.30.0.222/31, flags: [ignore]}\n",
    )?;
    under_test::wait_for_profile(Duration::from_secs(30))?;
    ensure!(!answered(CLIENTS[1].0, LIMIT, &[&ask])?, "the ignored range got an answer");
    ensure!(answered(CLIENTS[0].0, AMPLE, &[&ask])?, "another range got no answer");
    listed_addresses_alone()?;
    under_test::settle()
}

/// A list of the first machine's address, and of one that no machine has at first.
fn listed_addresses_alone() -> anyhow::Result<()> {
    const VIRTUAL: &str = "172.30.0.230";
    let [first, second] = vm::VMS;
    under_test::apply_four(&format!("  serve: {{addresses: [{}, {VIRTUAL}]}}\n", first.address()))?;
    under_test::wait_for_profile(Duration::from_secs(30))?;
    ntp_query::ask(&first.address())?;
    under_test::wait_for_condition(second, "Serving", "False", "NoAddress", Duration::from_secs(60))?;
    ensure!(
        ntp_query::ask(&second.address()).is_err(),
        "the second machine answers at an address that is not listed"
    );
    second.run(&format!("ip addr add {VIRTUAL}/32 dev eth0"))?;
    let result = wait::until("an answer from the virtual address", "1 s", Duration::from_secs(60), || {
        Ok(ntp_query::ask(VIRTUAL).ok())
    });
    let moved = result.and_then(|_| {
        under_test::wait_for_condition(second, "Serving", "True", "Open", Duration::from_secs(60))
    });
    second.run(&format!("ip addr del {VIRTUAL}/32 dev eth0"))?;
    moved?;
    // It has moved on, and the node says so.
    under_test::wait_for_condition(second, "Serving", "False", "NoAddress", Duration::from_secs(60))
}
