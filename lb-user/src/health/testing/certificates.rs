//! An authority and the certificates that it makes, for servers on the loopback.

use std::{io::Write as _, path::Path};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::NamedTempFile;

/// An authority that nobody knows but who reads its file.
pub(in crate::health) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: NamedTempFile,
}

/// A certificate with its key.
pub(in crate::health) struct Identity {
    pub(in crate::health) certificate: Certificate,
    pub(in crate::health) key: KeyPair,
}

impl Authority {
    pub(in crate::health) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Its own certificate, in PEM.
    pub(in crate::health) fn file(&self) -> &Path {
        self.file.path()
    }

    /// A certificate for these names, valid from one year's start to another's.
    pub(in crate::health) fn identity(&self, names: &[&str], years: (i32, i32)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names, years).signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }
}

/// A certificate that vouches for itself.
pub(in crate::health) fn self_signed(names: &[&str]) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params(names, (2020, 2120)).self_signed(&key).unwrap();
    Identity { certificate, key }
}

fn params(names: &[&str], (from, to): (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}
