//! The certificate and the key that all measured servers have for NTS.
use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use xtask::checkout;

/// Certificate of all servers, and its key: files in [`keys`].
pub(crate) const CERTIFICATE: &str = "server.pem";
pub(crate) const PRIVATE_KEY: &str = "server.key";

/// Where they are.
pub(crate) fn keys() -> PathBuf {
    checkout::state().join("bench/keys")
}

/// Makes them, for `localhost`.
pub(crate) fn make() -> anyhow::Result<()> {
    fs::create_dir_all(keys())?;
    let (mut parameters, key) = (CertificateParams::new(["localhost".to_owned()])?, KeyPair::generate()?);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(keys().join(CERTIFICATE), parameters.self_signed(&key)?.pem())?;
    fs::write(keys().join(PRIVATE_KEY), key.serialize_pem())?;
    Ok(())
}
