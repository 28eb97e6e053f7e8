//! A key in a Secret that is shared with an upstream. Without the Secret the running profile stays; with it nodes
//! follow the upstream. A wrong key, or a text that is no key, does not move the clocks, and is reported. The right key
//! works again.
use std::time::Duration;

use anyhow::{Context, ensure};
use api::SourceStatus;
use contract::SourceState;
use lab::{
    install::NAMESPACE,
    kubectl,
    under_test::{self, MS},
    upstream, vm, wait,
};

const SECRET: &str = "ntp-keys";
const LABEL: &str = "timesync.dev/keys=true";
/// A kubelet that ignores nudges updates its volumes about once a minute.
const UNTIL_READ: Duration = Duration::from_secs(150);

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let result = with_a_secret();
    kubectl::sh(&format!("delete secret {SECRET} -n {NAMESPACE} --ignore-not-found"))?;
    result?;
    under_test::settle()?;
    wait::until("timesync-keys to be empty again", "5 s", Duration::from_secs(60), || {
        let keys = kubectl::get(&format!("secret timesync-keys -n {NAMESPACE}"))?;
        Ok(keys["data"].as_object().is_none_or(serde_json::Map::is_empty).then_some(()))
    })
}

fn with_a_secret() -> anyhow::Result<()> {
    let before = under_test::report(vm::VMS[0])?.profile;
    let server = upstream::HONEST;
    under_test::apply(
        &[&format!("name: keyed, server: {server}, keyRef: {{name: {SECRET}, key: site}}")],
        "",
    )?;
    wait_for_policy("SecretMissing", "there is no Secret")?;
    ensure!(under_test::report(vm::VMS[0])?.profile == before, "another profile runs, without its key");

    // Without the label the Secret must not be copied to nodes.
    store(upstream::KEY)?;
    wait_for_policy("SecretMissing", &format!("label secret {SECRET} {LABEL}"))?;
    let keys = kubectl::get(&format!("secret timesync-keys -n {NAMESPACE}"))?;
    ensure!(!keys.to_string().contains(SECRET), "what has no label was copied");
    kubectl::sh(&format!("label secret {SECRET} -n {NAMESPACE} {LABEL}"))?;
    wait_until_followed()?;
    wait_for_policy("AllNodes", "")?;

    // The same id and type with other octets: the server does not answer.
    store(&upstream::KEY.replace("HEX:0", "HEX:f"))?;
    for vm in vm::VMS {
        let source = wait_for_source(vm, &["Unreachable", "Unusable"])?;
        ensure!(
            source.message.as_ref().is_some_and(|why| why.contains("key")),
            "it does not say why: {source:?}"
        );
    }
    clocks_stay()?;

    store("this is no key")?;
    for vm in vm::VMS {
        let source = wait_for_source(vm, &["Unusable"])?;
        let why = source.message.unwrap_or_default();
        ensure!(why.contains("site"), "it does not name the key: {why}");
        ensure!(!why.contains("this"), "it shows what the Secret holds: {why}");
    }
    clocks_stay()?;

    store(upstream::KEY)?;
    wait_until_followed()
}

/// Puts a text into the Secret.
fn store(text: &str) -> anyhow::Result<()> {
    kubectl::apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {SECRET}, namespace: {NAMESPACE}}}\nstringData: {{site: \"{text}\"}}\n"
    ))?;
    Ok(())
}

fn wait_until_followed() -> anyhow::Result<()> {
    for vm in vm::VMS {
        under_test::wait_for_report(vm, "to follow the upstream with the key", UNTIL_READ, |report| {
            let followed =
                report.sources.iter().any(|each| each.name == "keyed" && each.state == SourceState::Selected);
            report.clock.synchronized && followed
        })?;
    }
    clocks_stay()
}

fn clocks_stay() -> anyhow::Result<()> {
    wait::holds_for("both clocks stay right", Duration::from_secs(5), || {
        vm::VMS.into_iter().try_for_each(|vm| under_test::expect_within(vm, 5 * MS, 0))
    })
}

/// Waits until the policy's RolledOut has this reason, and a message with these words.
fn wait_for_policy(reason: &str, words: &str) -> anyhow::Result<()> {
    wait::until(&format!("RolledOut of the policy to say {reason}"), "2 s", Duration::from_secs(60), || {
        let policy = kubectl::policy(under_test::POLICY)?;
        let conditions = policy.status.unwrap_or_default().conditions;
        let said = conditions.iter().find(|condition| condition.type_ == "RolledOut");
        let new = said.is_some_and(|said| said.observed_generation == policy.metadata.generation);
        Ok(said
            .is_some_and(|said| new && said.reason == reason && said.message.contains(words))
            .then_some(()))
    })
}

/// Waits until NodeClock shows the upstream with the key in one of these states.
fn wait_for_source(vm: vm::Vm, states: &[&str]) -> anyhow::Result<SourceStatus> {
    let what = format!("NodeClock of {} to show the upstream as {}", vm.name(), states.join(" or "));
    let mut last = None;
    let result = wait::until(&what, "30 s", UNTIL_READ, || {
        let status = kubectl::node_clock(&vm.name())?.and_then(|clock| clock.status).unwrap_or_default();
        last = status.sources.into_iter().find(|source| source.name == "keyed");
        Ok(last.clone().filter(|source| states.contains(&source.state.as_str())))
    });
    result.with_context(|| format!("the last was {last:?}"))
}
