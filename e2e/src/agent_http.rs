//! Asks an agent itself, over its HTTP port: its report (with the token of the release) and its metrics.
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use contract::Report;

use crate::{install::NAMESPACE, kubectl};

/// The agent of a node, by the node's address.
pub(crate) struct Agent {
    address: String,
    token: String,
}

impl Agent {
    /// Reads the token from the release's Secret.
    pub(crate) fn at(address: &str) -> anyhow::Result<Self> {
        let encoded =
            kubectl::sh(&format!("get secret timesync-token -n {NAMESPACE} -o jsonpath={{.data.token}}"))?;
        Ok(Self { address: address.to_owned(), token: decoded(&encoded)? })
    }

    /// What the agent says of itself, now.
    pub(crate) fn report(&self) -> anyhow::Result<Report> {
        let body = self.fetch("/status", &format!("Authorization: Bearer {}\r\n", self.token))?;
        serde_json::from_str(&body).with_context(|| format!("the agent's report: {body}"))
    }

    /// A metric without labels.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let body = self.fetch("/metrics", "")?;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }

    fn fetch(&self, path: &str, headers: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect((self.address.as_str(), 9817))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // HTTP/1.0: the answer ends with the connection, and comes in one piece.
        stream.write_all(
            format!("GET {path} HTTP/1.0\r\nHost: {}\r\n{headers}\r\n", self.address).as_bytes(),
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        if !head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
            bail!("{path} of {}: {}", self.address, head.lines().next().unwrap_or_default());
        }
        Ok(body.to_owned())
    }
}

fn decoded(base64: &str) -> anyhow::Result<String> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("base64")?;
    child.stdin.take().context("stdin is piped")?.write_all(base64.as_bytes())?;
    Ok(String::from_utf8(child.wait_with_output()?.stdout)?)
}
