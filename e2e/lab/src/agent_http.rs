//! Asks an agent itself, over its HTTP port: its report (with the token of the release) and its metrics. [`get`] and [`series`]
//! do the same for the operator, which serves metrics and probes.
use std::{
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use contract::Report;
use k8s_openapi::api::core::v1::Secret;
use timesync_http::{Token, ask};

use crate::{install::NAMESPACE, kubectl, readings};

/// The agent of a node, by the node's address.
pub struct Agent {
    address: String,
    token: Token,
}

impl Agent {
    /// Reads the token from the release's Secret.
    pub fn at(address: &str) -> anyhow::Result<Self> {
        let secret: Secret =
            serde_json::from_value(kubectl::get(&format!("secret timesync-token -n {NAMESPACE}"))?)?;
        let token = secret.data.unwrap_or_default().remove("token").context("the Secret has no token")?;
        let token = Token::new(&token.0).context("the token is empty")?;
        Ok(Self { address: address.to_owned(), token })
    }

    /// What the agent says of itself, now.
    pub fn report(&self) -> anyhow::Result<Report> {
        let read = || -> anyhow::Result<Report> {
            let body = self.fetch("/status", Some(&self.token))?;
            serde_json::from_str(&body).with_context(|| format!("the agent's report: {body}"))
        };
        let result = read();
        let said = match &result {
            Ok(Report { instance, clock, profile, profile_error, .. }) => format!(
                "instance {instance}: {} ({}), offset {:?} s, profile {profile:?}, error {profile_error:?}",
                clock.reason.as_str(),
                clock.message,
                clock.offset
            ),
            Err(error) => format!("{error:#}"),
        };
        readings::note(&format!("the agent at {}", self.address), &said);
        result
    }

    /// A metric without labels.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        series(&self.fetch("/metrics", None)?, name)?.with_context(|| format!("no metric {name}"))
    }

    fn fetch(&self, path: &str, token: Option<&Token>) -> anyhow::Result<String> {
        // A busy machine may be late once. What an agent answers counts at once.
        let ask = || get((self.address.as_str(), 9817), token, path);
        let again = |_| {
            thread::sleep(Duration::from_secs(1));
            ask()
        };
        let (status, body) =
            ask().or_else(again).or_else(again).with_context(|| format!("{path} of {}", self.address))?;
        ensure!(status == 200, "{path} of {}: {status}: {body}", self.address);
        Ok(body)
    }
}

/// Status and body of the answer to `GET path`.
pub fn get(address: impl ToSocketAddrs, token: Option<&Token>, path: &str) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let answer = ask(stream, token, None, path)?;
    Ok((answer.status, String::from_utf8(answer.body)?))
}

/// The value of a series, such as `a_total{kind="b"}`, in the text of all metrics; `None` if there is no such series.
pub fn series(text: &str, series: &str) -> anyhow::Result<Option<f64>> {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.trim().parse().context("a number")).transpose()
}
