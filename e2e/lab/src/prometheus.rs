//! Debian's Prometheus, for questions to real data. It runs in the network of node1, where the operators' pods are.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;
use xtask::{checkout, process};

use crate::{
    agent_http,
    daemon::{self, Daemon},
    network, node, wait,
};

const PORT: u16 = 9390;
const NAME: &str = "prometheus";

/// Its address.
pub fn address() -> String {
    format!("http://{}:{PORT}", node::ADDRESS)
}

/// The folder of its configuration, empty.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = checkout::state().join(NAME);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Runs `check` while it scrapes as `prometheus.yml` in its folder says.
pub fn during(check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = checkout::state().join(NAME);
    Daemon::new(NAME, NAME)
        .wrap(&network::inside(network::NODE1))
        .args(&format!("--config.file={0}/prometheus.yml --storage.tsdb.path={0}/data", folder.display()))
        .args(&format!("--web.listen-address={}:{PORT} --log.level=warn", node::ADDRESS))
        .start()?;
    let result = ready().and_then(|()| check());
    daemon::end(NAME, "-KILL")?;
    result
}

fn ready() -> anyhow::Result<()> {
    wait::until("Prometheus", "1 s", Duration::from_secs(300), || {
        daemon::expect_running(NAME)?;
        let ready = agent_http::get((node::ADDRESS, PORT), None, "/-/ready");
        Ok(ready.is_ok_and(|(status, _)| status == 200).then_some(()))
    })
}

/// The values that a query returns, one for each series. A query that Prometheus refuses is an error.
pub fn ask(query: &str) -> anyhow::Result<Vec<String>> {
    daemon::expect_running(NAME)?;
    let answer = process::run(Command::new("promtool").args([
        "query",
        "instant",
        "--format=json",
        &address(),
        query,
    ]))?;
    let answer: Vec<Value> = serde_json::from_str(&answer).with_context(|| format!("{query}: {answer}"))?;
    Ok(answer.iter().filter_map(|series| Some(series["value"][1].as_str()?.to_owned())).collect())
}

/// Its rules, with the results of their last evaluations.
pub fn rules() -> anyhow::Result<Value> {
    // HTTP/1.0: the answer is one piece, which ends with the connection.
    let mut stream = TcpStream::connect((node::ADDRESS, PORT))?;
    stream.write_all(b"GET /api/v1/rules HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    serde_json::from_str(body).with_context(|| body.to_owned())
}
