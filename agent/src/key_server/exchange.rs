//! One key exchange: a connection and the settings in; an answer with eight cookies, and how the exchange ended, out.
//! It takes at most a few seconds and the memory of one request, whatever the client does.
use std::{io, time::Duration};

use ntp::{
    key_exchange::{self, EXPORTER_CONTEXTS, EXPORTER_LABEL, KEY_LEN, server::Offer},
    nts::{COOKIES, cookie::SessionKeys, server::fresh_cookie},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    cookie_keys::CookieKeys,
    key_server::connection_limit::Slot,
    server::{CookieKeyring, Nonces},
};

/// The terms for clients.
#[derive(Clone)]
pub(super) struct ExchangeSettings {
    /// TLS with the certificate.
    pub(super) tls: TlsAcceptor,
    /// The keys that seal the cookies.
    pub(super) cookie_keys: CookieKeys,
    /// The UDP port of the time server, if clients must know it.
    pub(super) ntp_port: Option<u16>,
}

/// Why the exchange failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("another client needed its place")]
    Evicted,
    #[error("it took too long")]
    Slow(#[from] time::error::Elapsed),
    #[error("{0}")]
    Connection(#[from] io::Error),
    #[error("the client does not speak NTS (ALPN ntske/1)")]
    NotNts,
    #[error("the connection was closed before the request's end")]
    Closed,
    #[error("the request is longer than {} octets", key_exchange::server::LONGEST_REQUEST)]
    TooLong,
    #[error("the request is bad")]
    Bad,
    #[error("the client does not do NTPv4 with AES-SIV-CMAC-256")]
    Nothing,
    #[error("TLS: {0}")]
    Export(#[from] rustls::Error),
    #[error("{0}")]
    Random(#[from] sys::Error),
}

/// Time limit of the whole exchange. A client on the other side of the world needs a second.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Exchanges keys over `stream`, whose connection has this slot.
pub(super) async fn serve(stream: TcpStream, settings: &ExchangeSettings, slot: &Slot) -> Result<(), Error> {
    time::timeout(TIMEOUT, exchange(stream, settings, slot)).await?
}

async fn exchange(stream: TcpStream, settings: &ExchangeSettings, slot: &Slot) -> Result<(), Error> {
    let mut stream = settings.tls.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(key_exchange::ALPN) {
        return Err(Error::NotNts);
    }
    let (answer, outcome) = match request(&mut stream).await? {
        Ok(Offer::Good) => (agreement(&stream, settings)?, Ok(())),
        Ok(Offer::NoProtocol) => (key_exchange::server::no_protocol(), Err(Error::Nothing)),
        Ok(Offer::NoAead) => (key_exchange::server::no_aead(), Err(Error::Nothing)),
        Err(why) => (key_exchange::server::refusal(why), Err(Error::Bad)),
    };
    stream.write_all(&answer).await?;
    slot.answered();
    stream.shutdown().await?;
    // What the client still sends must be read. Otherwise the system resets the connection, and the answer may be lost.
    let mut rest = [0; 256];
    while matches!(time::timeout(CLOSE_TIMEOUT, stream.read(&mut rest)).await, Ok(Ok(1..))) {}
    outcome
}

/// A client may keep a connection open for this long after the answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Stream = TlsStream<TcpStream>;

/// The client's offer, or what is wrong with it. It may come in any number of TLS records.
async fn request(stream: &mut Stream) -> Result<Result<Offer, key_exchange::server::Error>, Error> {
    let mut said = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = stream.read(&mut part).await?;
        if length == 0 {
            return Err(Error::Closed);
        }
        said.extend_from_slice(&part[..length]);
        match key_exchange::server::read(&said) {
            Ok(Some(offer)) => return Ok(Ok(offer)),
            Err(why) => return Ok(Err(why)),
            Ok(None) if said.len() > key_exchange::server::LONGEST_REQUEST => return Err(Error::TooLong),
            Ok(None) => {}
        }
    }
}

fn agreement(stream: &Stream, settings: &ExchangeSettings) -> Result<Vec<u8>, Error> {
    let connection = stream.get_ref().1;
    let key =
        |context: [u8; 5]| connection.export_keying_material([0; KEY_LEN], EXPORTER_LABEL, Some(&context));
    let [client_to_server, server_to_client] = EXPORTER_CONTEXTS.map(key);
    let keys = SessionKeys { client_to_server: client_to_server?, server_to_client: server_to_client? };
    let mut nonces = Nonces::new()?;
    let mut ring = CookieKeyring { keys: &settings.cookie_keys, nonces: &mut nonces };
    let cookies: Vec<_> = (0..COOKIES).map(|_| fresh_cookie(&keys, &mut ring)).collect();
    Ok(key_exchange::server::agreement(settings.ntp_port, cookies.iter().map(Vec::as_slice)))
}
