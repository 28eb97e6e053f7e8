//! A certificate authority of a test, made by openssl.
use std::{fs, path::PathBuf, process::Command};

use crate::bench::Folder;

/// It signs certificates in its folder.
pub(crate) struct Authority(PathBuf);

/// Where a certificate and its key are.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// From and until when a certificate is valid, as openssl writes it.
pub(crate) const VALID: (&str, &str) = ("20200101000000Z", "20900101000000Z");
pub(crate) const EXPIRED: (&str, &str) = ("20200101000000Z", "20210101000000Z");
pub(crate) const TO_COME: (&str, &str) = ("20800101000000Z", "20900101000000Z");

impl Authority {
    pub(crate) fn new(folder: &Folder, name: &str) -> Self {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        let here = path.display();
        let text = format!(
            "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir={here}\ndatabase={here}/index.txt\nserial={here}/serial\n\
             default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        );
        fs::write(path.join("ca.cnf"), text).unwrap();
        fs::write(path.join("index.txt"), "").unwrap();
        fs::write(path.join("serial"), "01").unwrap();
        let authority = Self(path);
        authority.request("ca");
        authority.sign("ca", "basicConstraints=critical,CA:TRUE", VALID, "-selfsign -keyfile ca.key");
        authority
    }

    /// The authority's own certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// A certificate for `subjects` such as `DNS:localhost`.
    pub(crate) fn certificate(&self, subjects: &str, dates: (&str, &str)) -> Certificate {
        self.request("server");
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={subjects}");
        self.sign("server", &extensions, dates, "-cert ca.pem -keyfile ca.key");
        Certificate { chain: self.0.join("server.pem"), key: self.0.join("server.key") }
    }

    fn request(&self, name: &str) {
        // Two authorities of one name would not be told apart by the name.
        let whose = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={whose}-{name} -keyout {name}.key \
             -out {name}.csr"
        ));
    }

    fn sign(&self, name: &str, extensions: &str, (start, end): (&str, &str), signer: &str) {
        fs::write(self.0.join(format!("{name}.ext")), extensions).unwrap();
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf {signer} -extfile {name}.ext -startdate {start} -enddate {end} \
             -in {name}.csr -out {name}.pem"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.0).output();
        let done = done.expect("these tests need Debian's package openssl");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
