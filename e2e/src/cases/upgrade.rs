//! The chart's life: `helm test` passes, an upgrade keeps the token, a new install takes over what an uninstall left.
use anyhow::ensure;

use super::lab;
use crate::{
    checkout,
    install::{self, NAMESPACE},
    kubectl,
};

pub(super) fn run() -> anyhow::Result<()> {
    lab::settle()?;
    kubectl::helm(&["test", "timesync", "--namespace", NAMESPACE, "--timeout", "120s"])?;
    kubectl::sh(&format!("delete pod timesync-test-answers -n {NAMESPACE} --ignore-not-found --wait=true"))?;
    an_upgrade_keeps_the_token()?;
    a_new_install_takes_over()?;
    lab::settle()
}

fn an_upgrade_keeps_the_token() -> anyhow::Result<()> {
    let before = token()?;
    let chart = checkout::root().join("charts/timesync").display().to_string();
    let words = ["upgrade", "timesync", &chart, "--namespace", NAMESPACE, "--reuse-values", "--set"];
    kubectl::helm(&[&words[..], &["agent.logLevel=debug"]].concat())?;
    install::wait_for_pods()?;
    ensure!(token()? == before, "the upgrade changed the token");
    lab::settle()
}

fn token() -> anyhow::Result<String> {
    kubectl::sh(&format!("get secret timesync-token -n {NAMESPACE} -o jsonpath={{.data.token}}"))
}

fn a_new_install_takes_over() -> anyhow::Result<()> {
    kubectl::helm(&["uninstall", "timesync", "--namespace", NAMESPACE, "--wait"])?;
    ensure!(kubectl::sh("get tsp -o name")?.contains(lab::POLICY), "uninstall took a policy with it");
    install::chart(&[])
}
