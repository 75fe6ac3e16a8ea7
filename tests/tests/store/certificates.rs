//! An authority, and the certificates of a cluster and of its clients, as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use evenkeel_tests::servers::{Security, User};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// What the members are reached by.
const MEMBERS: [&str; 3] = ["10.9.0.1", "10.9.0.2", "10.9.0.3"];

/// The prefix that the edges' user may read and write.
pub const PREFIX: &str = "/fleet-a";
/// That user, and its password.
pub const USER: (&str, &str) = ("edges", "keel and mast");

/// Makes all of it in a directory.
pub fn security(directory: &Path) -> Result<Security> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "evenkeel-tests");
    let authority = directory.join("authority.pem");
    fs::write(&authority, params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let user = |(name, password): (&str, &str), prefix: &str| User {
        name: name.to_owned(),
        password: password.to_owned(),
        prefix: prefix.to_owned(),
    };
    Ok(Security {
        authority,
        server: identity(directory, "server", &MEMBERS, &issuer)?,
        client: identity(directory, "client", &["edge"], &issuer)?,
        users: vec![user(("root", "root's own"), ""), user(USER, &format!("{PREFIX}/"))],
    })
}

/// A certificate with its key, in two files.
fn identity(
    directory: &Path,
    name: &str,
    names: &[&str],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<[PathBuf; 2]> {
    let key = KeyPair::generate()?;
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
    let certificate = params.signed_by(&key, issuer)?;
    let files = [".pem", ".key"].map(|suffix| directory.join(format!("{name}{suffix}")));
    fs::write(&files[0], certificate.pem())?;
    fs::write(&files[1], key.serialize_pem())?;
    Ok(files)
}
