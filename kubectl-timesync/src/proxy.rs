//! Which proxy a request to the API server goes through, by the rules of kubectl: `proxy-url` of the kubeconfig's
//! cluster, or else $HTTPS_PROXY unless $NO_PROXY excludes the server. Pure. kube has rules of its own, but it compares
//! $NO_PROXY with the proxy's name, not with the server's.
use std::net::IpAddr;

/// The server that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server<'a> {
    /// `https` or `http`.
    pub(crate) scheme: &'a str,
    /// Its name, or its address; one of IPv6 may have brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

/// The proxy's URL; none if the server is asked directly. `named` is `proxy-url`, and `environment` returns a variable.
pub(crate) fn choose(
    named: Option<&str>,
    server: Server<'_>,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return Some(url(named));
    }
    let either = |upper: &str, lower: &str| {
        [upper, lower].into_iter().find_map(|name| environment(name).filter(|value| !value.is_empty()))
    };
    let proxy = match server.scheme {
        "http" => either("HTTP_PROXY", "http_proxy"),
        _ => either("HTTPS_PROXY", "https_proxy"),
    }?;
    let excluded = either("NO_PROXY", "no_proxy").unwrap_or_default();
    (!is_excluded(server, &excluded)).then(|| url(&proxy))
}

/// The URL with a scheme that kube knows. Without a scheme a proxy speaks HTTP. A name is always resolved by a SOCKS
/// proxy, which is what the h of socks5h asks for.
fn url(proxy: &str) -> String {
    match proxy.split_once("://") {
        None => format!("http://{proxy}"),
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(_) => proxy.to_owned(),
    }
}

/// The URL without a user and a password, for messages.
pub(crate) fn without_user(url: &str) -> String {
    let Some((user, rest)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = user.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}{rest}")
}

/// Returns true if $NO_PROXY excludes the server. This machine itself is always excluded.
fn is_excluded(server: Server<'_>, no_proxy: &str) -> bool {
    let host = bare(server.host).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, length)) = entry.split_once('/') {
            return address.is_some_and(|address| is_within(address, network, length));
        }
        let (name, port) = name_and_port(entry);
        if port.is_some_and(|port| port != server.port) {
            return false;
        }
        let name = bare(name).to_ascii_lowercase();
        if let Ok(excluded) = name.parse::<IpAddr>() {
            return address == Some(excluded);
        }
        // `.example.com` and `*.example.com` are the names below it; `example.com` is itself one of them.
        let below = name.trim_start_matches('*').trim_start_matches('.');
        let is_below = host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.'));
        is_below || below == name && host == name
    })
}

/// A host without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// An entry's name, and its port if it has one. An IPv6 address without brackets has colons of its own.
fn name_and_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?))) {
        Some((name, port)) => (name, Some(port)),
        None => (entry, None),
    }
}

/// Returns true if the address is in the network of this address and prefix length.
fn is_within(address: IpAddr, network: &str, length: &str) -> bool {
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, size), (network, expected)) = (bits(address), bits(network));
    // A shift by all bits overflows: the network has every address.
    size == expected && length <= size && (address ^ network).checked_shr(size - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(named: Option<&str>, server: &str, variables: &[(&str, &str)]) -> Option<String> {
        let (scheme, rest) = server.split_once("://").unwrap();
        let (host, port) = rest.rsplit_once(':').unwrap();
        let server = Server { scheme, host, port: port.parse().unwrap() };
        choose(named, server, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_kubeconfig_takes_precedence_over_the_environment() {
        let all = [("HTTPS_PROXY", "http://env:1"), ("NO_PROXY", "*")];
        assert_eq!(chosen(Some("socks5h://named:1"), "https://a:443", &all), Some("socks5://named:1".into()));
        assert_eq!(chosen(Some(""), "https://a:443", &all[..1]), Some("http://env:1".into()));
        assert_eq!(chosen(None, "https://a:443", &[("https_proxy", "env:1")]), Some("http://env:1".into()));
        assert_eq!(chosen(None, "http://a:80", &all[..1]), None);
        assert_eq!(
            chosen(None, "http://a:80", &[("HTTP_PROXY", "http://env:1")]),
            Some("http://env:1".into())
        );
        assert_eq!(chosen(None, "https://a:443", &all), None);
        assert_eq!(chosen(None, "https://a:443", &[]), None);
    }

    #[test]
    fn no_proxy_is_about_the_server() {
        let check = |no_proxy: &str, server: &str, excluded: bool| {
            let all = [("HTTPS_PROXY", "http://proxy.example.com:1"), ("NO_PROXY", no_proxy)];
            let found = chosen(None, &format!("https://{server}"), &all);
            assert_eq!(found.is_none(), excluded, "{no_proxy} {server}: {found:?}");
        };
        check("proxy.example.com", "api.example.org:6443", false);
        check("example.org", "api.example.org:6443", true);
        check("example.org", "Example.ORG:6443", true);
        check("example.org", "badexample.org:6443", false);
        check("a, ,.example.org,", "api.example.org:6443", true);
        check(".example.org", "example.org:6443", false);
        check("*.example.org", "api.example.org:6443", true);
        check("api.example.org:443", "api.example.org:6443", false);
        check("api.example.org:6443", "api.example.org:6443", true);
        check("10.0.0.0/8", "10.96.0.1:443", true);
        check("10.0.0.0/8", "11.0.0.1:443", false);
        check("10.96.0.1", "10.96.0.1:443", true);
        check("0.0.0.0/0", "10.96.0.1:443", true);
        check("fd00::/8", "[fd00::1]:443", true);
        check("::/0,fd00::2", "[fd00::1]:443", true);
        check("fd00::2,[fd00::1]:443", "[fd00::1]:443", true);
        check("fd00::/8", "10.0.0.1:443", false);
        check("10.0.0.0/33,x/y", "10.0.0.1:443", false);
        check("", "localhost:443", true);
        check("", "127.0.0.1:443", true);
        check("", "api.example.org:443", false);
    }
}
