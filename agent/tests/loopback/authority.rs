//! A certificate authority of a test.
use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use crate::bench::Folder;

/// It signs certificates and keeps them in its folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Where a certificate and its key are.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The years in which a certificate begins and ceases to be valid.
pub(crate) const VALID: (i32, i32) = (2020, 2090);
pub(crate) const EXPIRED: (i32, i32) = (2020, 2021);
pub(crate) const TO_COME: (i32, i32) = (2080, 2090);

impl Authority {
    pub(crate) fn new(folder: &Folder, name: &str) -> Self {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        // Two authorities of one name would not be told apart by the name.
        let mut parameters = parameters(&format!("{name}-ca"), Vec::new(), VALID);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder, issuer };
        fs::write(authority.root(), authority.issuer.pem()).unwrap();
        authority
    }

    /// The authority's own certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for a host name or an address.
    pub(crate) fn certificate(&self, subject: &str, years: (i32, i32)) -> Certificate {
        let mut parameters = parameters("server", vec![subject.to_owned()], years);
        parameters.is_ca = IsCa::ExplicitNoCa;
        let pair = KeyPair::generate().unwrap();
        let signed = parameters.signed_by(&pair, &self.issuer).unwrap();
        let [chain, key] = ["server.pem", "server.key"].map(|file| self.folder.join(file));
        fs::write(&chain, signed.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        Certificate { chain, key }
    }
}

fn parameters(name: &str, subjects: Vec<String>, (first, end): (i32, i32)) -> CertificateParams {
    let mut parameters = CertificateParams::new(subjects).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    (parameters.not_before, parameters.not_after) = (date_time_ymd(first, 1, 1), date_time_ymd(end, 1, 1));
    parameters
}
