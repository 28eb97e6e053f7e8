//! The client of one key exchange: a connection to each address that is tried, TLS, the records, and the keys out of it.
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ntp::key_exchange;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, client::Resumption, crypto::ring, pki_types::ServerName,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    happy_eyeballs::{self, AttemptPermit},
    request::{ExchangeRequest, Failure, NewSession},
};
use crate::{
    auth::{
        Session,
        certificate::{self, Verifier},
    },
    resolve::{self, Resolver},
};

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the name does not resolve: {0}")]
    Unresolved(resolve::Error),
    #[error("no certificate can be for this name")]
    Name,
    #[error("{0}")]
    Roots(#[from] certificate::Error),
    #[error("{0}")]
    Network(io::Error),
    #[error("the connection was closed before the answer's end")]
    Closed,
    #[error("the server does not speak NTS (ALPN ntske/1)")]
    NotNts,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate is for another name")]
    OtherName,
    #[error("the certificate is not signed by an authority that this node trusts")]
    Untrusted,
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("the answer is longer than {} octets", key_exchange::LONGEST_ANSWER)]
    TooLong,
    #[error("{0}")]
    Records(#[from] key_exchange::Error),
    #[error("timed out")]
    Slow(#[from] time::error::Elapsed),
    #[error("the NTP server {0} that it names does not resolve: {1}")]
    Server(String, resolve::Error),
    #[error("the agent failed ({0}): please report it with the agent's log")]
    Fault(String),
}

impl From<io::Error> for Error {
    /// rustls' errors are wrapped in I/O errors.
    fn from(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(tls) => tls.into(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            Err(error) => Self::Network(error),
        }
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Self::Expired,
            rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
                Self::NotYetValid
            }
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                Self::OtherName
            }
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => Self::Untrusted,
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NotNts,
            other => Self::Tls(other),
        }
    }
}

/// Exchanges keys with the host in the request, at any of its addresses.
pub(super) async fn exchange(request: &ExchangeRequest, resolver: &Resolver) -> Result<NewSession, Failure> {
    let ExchangeRequest { host, port, .. } = request;
    let failure = |error: Error| match error {
        Error::Unresolved(why) => Failure::Unresolved(why.to_string()),
        error => Failure::Refused(format!("Key exchange with {host} (TCP port {port}): {error}.")),
    };
    exchange_with_any(request, resolver).await.map_err(failure)
}

async fn exchange_with_any(request: &ExchangeRequest, resolver: &Resolver) -> Result<NewSession, Error> {
    let tls = TlsConnector::from(Arc::new(configuration(request)?));
    let host = request.host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(|_| Error::Name)?;
    let addresses = match request.with {
        Some(address) => vec![address],
        None => resolver.look_up(host).await.map_err(Error::Unresolved)?,
    };
    let attempt = |address, permit: AttemptPermit| {
        let (tls, name, to) = (tls.clone(), name.clone(), SocketAddr::new(address, request.port));
        async move {
            let stream = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await??;
            let _permit = permit.take().await;
            let (session, established) =
                time::timeout(EXCHANGE_TIMEOUT, exchange_records(tls, name, stream)).await??;
            Ok((session, established, address))
        }
    };
    let (session, server, port, peer) = match happy_eyeballs::first(&addresses, attempt).await {
        Ok((session, key_exchange::Established { server, port, .. }, peer)) => (session, server, port, peer),
        Err(errors) => return Err(most_informative(errors)),
    };
    let addresses = match server {
        None => vec![peer],
        Some(server) => match resolver.look_up(&server).await {
            Ok(addresses) => addresses,
            Err(why) => return Err(Error::Server(server, why)),
        },
    };
    Ok(NewSession { session, addresses, port })
}

/// Time limit for a connection to one address. A lost SYN is sent again after 1 and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Time limit for the whole exchange with one address. On the other side of the world it takes a second.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

fn configuration(request: &ExchangeRequest) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let roots = certificate::roots(request.ca.as_deref())?;
    let verifier = Verifier::new(roots, Arc::clone(&provider), request.validity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![key_exchange::ALPN.to_vec()];
    // A resumed connection would show the server that it is the same client again, and saves little.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The most informative error: one about what a server did wrong says more than one about a server that did not answer.
fn most_informative(mut errors: Vec<Error>) -> Error {
    let silence = |error: &Error| matches!(error, Error::Network(_) | Error::Slow(_));
    if let Some(index) = errors.iter().position(|error| !silence(error)) {
        return errors.swap_remove(index);
    }
    // A name that resolves has an address, so there is no error only if an attempt panicked.
    errors.pop().unwrap_or_else(|| Error::Fault("no attempt ended".to_owned()))
}

/// Sends the client's records through TLS, and reads the server's to their end.
async fn exchange_records(
    tls: TlsConnector,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<(Session, key_exchange::Established), Error> {
    let mut stream = tls.connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(key_exchange::ALPN) {
        return Err(Error::NotNts);
    }
    stream.write_all(&key_exchange::request()).await?;
    stream.flush().await?;
    let mut established = answer(&mut stream).await?;
    let mut keys = [[0; key_exchange::KEY_LEN]; 2];
    for (key, context) in keys.iter_mut().zip(key_exchange::EXPORTER_CONTEXTS) {
        let connection = stream.get_ref().1;
        *key = connection.export_keying_material(*key, key_exchange::EXPORTER_LABEL, Some(&context))?;
    }
    // The answer is complete. The shutdown is only a courtesy to the server.
    let _ = stream.shutdown().await;
    Ok((Session::new(keys, std::mem::take(&mut established.cookies)), established))
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> Result<key_exchange::Established, Error> {
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    loop {
        let received = stream.read(&mut part).await?;
        answer.extend_from_slice(&part[..received]);
        if let Some(established) = key_exchange::read(&answer)? {
            return Ok(established);
        }
        if answer.len() > key_exchange::LONGEST_ANSWER {
            return Err(Error::TooLong);
        }
        if received == 0 {
            return Err(Error::Closed);
        }
    }
}
