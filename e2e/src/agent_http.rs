//! Asks an agent itself, over its HTTP port: its report (with the token of the release) and its metrics.
use std::{
    io::Write,
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use contract::Report;
use timesync_http::{Token, ask};

use crate::{install::NAMESPACE, kubectl};

/// The agent of a node, by the node's address.
pub(crate) struct Agent {
    address: String,
    token: Token,
}

impl Agent {
    /// Reads the token from the release's Secret.
    pub(crate) fn at(address: &str) -> anyhow::Result<Self> {
        let encoded =
            kubectl::sh(&format!("get secret timesync-token -n {NAMESPACE} -o jsonpath={{.data.token}}"))?;
        let token = Token::new(&decoded(&encoded)?).context("the token is empty")?;
        Ok(Self { address: address.to_owned(), token })
    }

    /// What the agent says of itself, now.
    pub(crate) fn report(&self) -> anyhow::Result<Report> {
        let body = self.fetch("/status", Some(&self.token))?;
        serde_json::from_str(&body).with_context(|| format!("the agent's report: {body}"))
    }

    /// A metric without labels.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let body = self.fetch("/metrics", None)?;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }

    fn fetch(&self, path: &str, token: Option<&Token>) -> anyhow::Result<String> {
        let stream = TcpStream::connect((self.address.as_str(), 9817))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let answer = ask(stream, token, None, path).with_context(|| format!("{path} of {}", self.address))?;
        let body = String::from_utf8(answer.body)?;
        ensure!(answer.status == 200, "{path} of {}: {}: {body}", self.address, answer.status);
        Ok(body)
    }
}

fn decoded(base64: &str) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("base64")?;
    child.stdin.take().context("stdin is piped")?.write_all(base64.as_bytes())?;
    Ok(child.wait_with_output()?.stdout)
}
