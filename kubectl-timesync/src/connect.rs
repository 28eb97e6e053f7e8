//! The connection to the API server: kubectl's flags and $KUBECONFIG in, a client out. Inside a pod without a kubeconfig
//! it is the pod's own account, as with kubectl.
use std::{env, path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::proxy;

/// Flags that every command has, as kubectl spells them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Flags of kubectl")]
pub(crate) struct Flags {
    /// The kubeconfig file, instead of those in $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The cluster of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The user of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The namespace of the operator and the agents
    #[arg(long, short, global = true, value_name = "NAME", default_value = "timesync-system")]
    pub(crate) namespace: String,
    /// How long one request may take: 30s, 1m; 0 for as long as it takes
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = request_timeout)]
    pub(crate) request_timeout: Timeout,
}

/// The longest time of a request; none if there is no limit.
type Timeout = Option<Duration>;

/// As kubectl reads it: a number without a unit is in seconds.
fn request_timeout(text: &str) -> Result<Timeout, String> {
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text.parse::<contract::Span>().map_err(|error| error.to_string())?.as_duration(),
    };
    Ok(Some(span).filter(|span| !span.is_zero()))
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kubeconfig cannot be used.
    #[error(
        "no cluster: {0}. Name a kubeconfig by --kubeconfig or $KUBECONFIG, and a context by --context; `kubectl config \
         get-contexts` lists them"
    )]
    Kubeconfig(#[from] KubeconfigError),
    /// The proxy's settings cannot be used.
    #[error(
        "the proxy cannot be used: {0}. `proxy-url` of the kubeconfig and $HTTPS_PROXY are URLs, such as \
         http://proxy.example.com:3128; $NO_PROXY has hosts, domains and networks, with a comma between two"
    )]
    Proxy(String),
    /// The client cannot be made, for example because a certificate cannot be read.
    #[error("no connection: {0}")]
    Client(#[from] kube::Error),
}

/// A client for the cluster that the flags name.
pub(crate) async fn client(flags: &Flags) -> Result<Client, Error> {
    let options = KubeConfigOptions {
        context: flags.context.clone(),
        cluster: flags.cluster.clone(),
        user: flags.user.clone(),
    };
    let file = flags.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let named = file.as_ref().ok().and_then(|file| proxy_named(file, flags));
    let from_file = match file {
        Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
        Err(error) => Err(error),
    };
    let is_chosen = [&flags.context, &flags.cluster, &flags.user].into_iter().any(Option::is_some)
        || flags.kubeconfig.is_some();
    let mut config = match from_file {
        Ok(config) => config,
        Err(error @ (KubeconfigError::ParseProxyUrl(_) | KubeconfigError::ParseNoProxy(_))) => {
            return Err(Error::Proxy(with_causes(&error)));
        }
        Err(error) if is_chosen => return Err(error.into()),
        Err(error) => Config::incluster().map_err(|_| error)?,
    };
    let server = proxy::Server {
        scheme: config.cluster_url.scheme_str().unwrap_or("https"),
        host: config.cluster_url.host().unwrap_or_default(),
        port: config
            .cluster_url
            .port_u16()
            .unwrap_or_else(|| if config.cluster_url.scheme_str() == Some("http") { 80 } else { 443 }),
    };
    let chosen = proxy::choose(named.as_deref(), server, |name| env::var(name).ok());
    let parsed = chosen.map(|url| {
        url.parse().map_err(|error| Error::Proxy(format!("{}: {error}", proxy::without_user(&url))))
    });
    config.proxy_url = parsed.transpose()?;
    (config.connect_timeout, config.read_timeout) = (flags.request_timeout, flags.request_timeout);
    config.reset_reader_on_write = true;
    Ok(Client::try_from(config)?)
}

/// The `proxy-url` of the cluster that the flags name.
fn proxy_named(file: &Kubeconfig, flags: &Flags) -> Option<String> {
    let context = flags.context.as_ref().or(file.current_context.as_ref())?;
    let context = file.contexts.iter().find(|each| each.name == *context)?.context.as_ref()?;
    let cluster = flags.cluster.as_ref().unwrap_or(&context.cluster);
    file.clusters.iter().find(|each| each.name == *cluster)?.cluster.as_ref()?.proxy_url.clone()
}

/// The error with what is behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_kubectl_reads_them() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(request_timeout(text), Ok(expected.map(Duration::from_secs)), "{text}");
        };
        check("0", None);
        check("0s", None);
        check("5", Some(5));
        check("1m30s", Some(90));
        assert!(request_timeout("soon").is_err());
    }
}
