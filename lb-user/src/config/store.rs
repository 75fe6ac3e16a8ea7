//! `[store]`: where services are kept that several edges share.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::model::human;

/// What keeps the services, their backends, and who is taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// The configuration file alone: they are this host's.
    #[default]
    File,
    /// etcd: they are those of every edge that has the same.
    Etcd,
}

/// An etcd that edges share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Its kind, which is not the file.
    pub kind: StoreKind,
    /// The members' addresses for clients, at least one.
    pub endpoints: Vec<String>,
    /// What its keys begin with, from a slash on, without one at the end.
    pub prefix: String,
    /// This edge's name; `None`: that of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// Authorities to trust instead of the system's, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The certificate to show and its key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Who to be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// How long a request may take.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The file of the certificate and those between it and the authority.
    pub certificate_file: PathBuf,
    /// The file of its key.
    pub key_file: PathBuf,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// A file with the password, read anew for each connection.
    pub password_file: PathBuf,
}

impl Store {
    /// What keys begin with where nothing else is said.
    pub const PREFIX: &str = "/evenkeel";
    /// How long a request may take where nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// The name of this edge.
    #[must_use]
    pub fn edge(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.edge.clone().unwrap_or_else(host)
    }
}
