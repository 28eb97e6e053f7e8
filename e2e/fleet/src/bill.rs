//! Counts the writes to the API server by the API server's own metric: `/metrics` in; counts by resource out.
use std::collections::BTreeMap;

use anyhow::Context;
use axum::http::Request;
use kube::Client;

/// The writes so far, by resource with its subresource, and by success.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bill(BTreeMap<(String, bool), u64>);

impl Bill {
    /// Reads the metric of the API server.
    pub(crate) async fn read(client: &Client) -> anyhow::Result<Self> {
        let request = Request::get("/metrics").body(Vec::new()).context("a request")?;
        Ok(Self::parse(&client.request_text(request).await.context("metrics of the API server")?))
    }

    fn parse(text: &str) -> Self {
        let mut bill = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, count)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let rest = labels.split_once(&format!("{name}=\""))?.1;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let verb = label("verb").unwrap_or_default();
            if !["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb.as_str()) {
                continue;
            }
            let resource = label(",resource").unwrap_or_default();
            let resource = match label("subresource").filter(|part| !part.is_empty()) {
                Some(part) => format!("{resource}/{part}"),
                None => resource,
            };
            let done = label("code").is_some_and(|code| code.starts_with('2'));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = count.trim().parse::<f64>().unwrap_or_default() as u64;
            *bill.0.entry((resource, done)).or_default() += count;
        }
        bill
    }

    /// The writes since an earlier count.
    pub fn since(&self, before: &Self) -> Self {
        let more = |(key, count): (&(String, bool), &u64)| {
            let more = count - before.0.get(key).copied().unwrap_or_default().min(*count);
            (more > 0).then(|| (key.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// The writes to a resource, including refused ones.
    pub fn of(&self, resource: &str) -> u64 {
        [true, false].iter().filter_map(|done| self.0.get(&(resource.to_owned(), *done))).sum()
    }

    /// The successful writes to a resource.
    pub fn done(&self, resource: &str) -> u64 {
        self.0.get(&(resource.to_owned(), true)).copied().unwrap_or_default()
    }

    /// The writes that exist for each node: annotations of pods, NodeClocks and Events.
    pub fn of_nodes(&self) -> u64 {
        ["pods", "nodeclocks", "nodeclocks/status", "events"].iter().map(|resource| self.of(resource)).sum()
    }

    /// All counts as a text.
    pub fn shown(&self) -> String {
        let shown = |((resource, done), count): (&(String, bool), &u64)| {
            let refused = if *done { "" } else { " refused" };
            format!("{resource} {count}{refused}")
        };
        self.0.iter().map(shown).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="APPLY",version="v1"} 10
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="status",verb="PATCH",version="v1"} 1000
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 7
apiserver_request_total{code="409",component="apiserver",dry_run="",group="events.k8s.io",resource="events",scope="resource",subresource="",verb="POST",version="v1"} 2
"#;

    #[test]
    fn writes_are_counted_and_reads_are_not() {
        let before = Bill::parse(BEFORE);
        let after =
            BEFORE.replace("} 10\n", "} 1.1e+01\n").replace("} 2\n", "} 4\n").replace("} 7\n", "} 70\n");
        let more = Bill::parse(&after).since(&before);
        assert_eq!(more.shown(), "events 2 refused, pods 1");
        assert_eq!((more.of("pods"), more.of("pods/status"), more.of_nodes()), (1, 0, 3));
        assert_eq!((more.done("pods"), more.done("events")), (1, 0));
    }
}
