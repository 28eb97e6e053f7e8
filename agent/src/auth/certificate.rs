//! Verifies the certificate of a key exchange's server. Roots and a time in; a verifier for rustls out. The chain, the
//! name and the signatures are always verified. Only the time of the verification may be left open.
use std::{fs, io, path::Path, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

use crate::text;

/// The time at which a certificate must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Seconds since 1970.
    At(u64),
    /// At any time: for a clock that is known to be wrong, and that is to be set by this server's time.
    Ever,
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("file {file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("file {file}: {source}")]
    Pem { file: String, source: pem::Error },
    #[error("file {file}: a certificate in it cannot be used: {source}")]
    Root { file: String, source: rustls::Error },
    #[error("file {0} holds no certificate")]
    Empty(String),
    #[error("{0}")]
    Build(#[from] VerifierBuilderError),
}

/// The trusted certificates: those in the PEM file at `path`, or else Mozilla's.
pub(super) fn roots(path: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = path else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let file = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |source| Error::Read { file: file(), source };
    let octets = fs::read(path).map_err(failed)?;
    let octets = text::unmarked(&octets).map_err(|error| failed(io::Error::other(error)))?;
    for certificate in CertificateDer::pem_slice_iter(octets) {
        let certificate = certificate.map_err(|source| Error::Pem { file: file(), source })?;
        roots.add(certificate).map_err(|source| Error::Root { file: file(), source })?;
    }
    if roots.is_empty() { Err(Error::Empty(file())) } else { Ok(roots) }
}

/// Verifies certificates at a time that is not the system clock's.
#[derive(Debug)]
pub(super) struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    validity: Validity,
}

impl Verifier {
    pub(super) fn new(
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
        validity: Validity,
    ) -> Result<Self, Error> {
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { webpki, validity })
    }
}

/// More than the certificates of a chain. If the time is open, each try moves past one certificate that began later.
const MOST_TRIES: usize = 8;

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify =
            |at| self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let mut time = match self.validity {
            Validity::At(seconds) => return verify(at(seconds)),
            Validity::Ever => at(0),
        };
        // If the chain was ever valid, it was when the last of its certificates began.
        for _ in 0..MOST_TRIES {
            match verify(time) {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before > time => time = not_before,
                outcome => return outcome,
            }
        }
        verify(time)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_is_wrong_with_a_file_of_certificates_is_said() {
        let folder = Scratch::new();
        let path = folder.path().join("ca.pem");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let why = roots(Some(&path)).map(|_| ()).unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
        };
        check("", "file ca.pem holds no certificate");
        check(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "file ca.pem: a certificate in it",
        );
        check("-----BEGIN CERTIFICATE-----\n?\n", "file ca.pem: ");
        // A byte order mark before it hides no certificate.
        check(
            "\u{feff}-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----\r\n",
            "file ca.pem: a certificate in it",
        );
        check("-\0-\0", "file ca.pem: it is UTF-16");
        let missing = roots(Some(&folder.path().join("none"))).unwrap_err().to_string();
        assert!(missing.contains("file none: "), "{missing}");
        assert!(roots(None).unwrap().len() > 50);
    }
}
