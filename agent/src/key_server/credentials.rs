//! Certificate and private key of the key exchange: two PEM files in; the settings of a TLS 1.3 server out, made again
//! when a file changes. Prints no key.
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ntp::key_exchange;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::NoServerSessionStorage,
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use super::validity::CertificateValidity;
use crate::text;

/// The credentials that were last read.
pub(super) struct Credentials {
    acceptor: TlsAcceptor,
    validity: Option<CertificateValidity>,
    /// A digest of both files, to detect a change.
    digest: [u8; 32],
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("file {}: {source}", name(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("file {}: {source}", name(path))]
    Pem { path: PathBuf, source: pem::Error },
    #[error("file {} holds no certificate", name(path))]
    Empty { path: PathBuf },
    #[error("certificate and private key: {0}")]
    Tls(#[from] rustls::Error),
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Credentials {
    /// Reads both files, and checks that they belong together.
    pub(super) fn read(certificate: &Path, private_key: &Path) -> Result<Self, Error> {
        let files = [octets(certificate)?, octets(private_key)?];
        Self::of(&files, certificate, private_key)
    }

    /// Reads the files again if they have changed. Returns true if they had. After an error the old credentials stay.
    pub(super) fn refresh(&mut self, certificate: &Path, private_key: &Path) -> Result<bool, Error> {
        let files = [octets(certificate)?, octets(private_key)?];
        if digest(&files) == self.digest {
            return Ok(false);
        }
        *self = Self::of(&files, certificate, private_key)?;
        Ok(true)
    }

    /// The acceptor for connections from now on.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// The validity of the certificate of the chain that expires first; none if it cannot be read.
    pub(super) fn validity(&self) -> Option<CertificateValidity> {
        self.validity
    }

    fn of(files: &[Vec<u8>; 2], certificate: &Path, private_key: &Path) -> Result<Self, Error> {
        let pem = |path: &Path| {
            let path = path.to_owned();
            |source| Error::Pem { path, source }
        };
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&files[0]).collect::<Result<_, _>>().map_err(pem(certificate))?;
        if chain.is_empty() {
            return Err(Error::Empty { path: certificate.to_owned() });
        }
        let validity = chain.iter().filter_map(|each| CertificateValidity::of(each));
        let validity = validity.min_by_key(|validity| validity.not_after);
        let key = PrivateKeyDer::from_pem_slice(&files[1]).map_err(pem(private_key))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![key_exchange::ALPN.to_vec()];
        // A client comes once a week. A ticket would cost memory here, and identify the client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), validity, digest: digest(files) })
    }
}

/// Ten times the size of a chain of ten large certificates.
const LARGEST_FILE: u64 = 1 << 20;

fn octets(path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        // This task must not wait for the other end of a pipe.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() || metadata.len() > LARGEST_FILE {
            return Err(io::Error::other("not a plain file of at most 1 MiB"));
        }
        let octets = fs::read(path)?;
        Ok(text::unmarked(&octets).map_err(io::Error::other)?.to_vec())
    };
    read().map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn digest(files: &[Vec<u8>; 2]) -> [u8; 32] {
    let length = (files[0].len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(&files[0]).chain_update(&files[1]).finalize().into()
}
