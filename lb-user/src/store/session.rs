//! The conversation with one member of etcd: reading what is under the prefix, writing it where nobody else has
//! meanwhile, and the lease that says that this edge is there.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity, KvClient,
    LeaseKeepAliveStream, LeaseKeeper, PutOptions, TlsOptions, Txn, TxnOp, WatchOptions,
    WatchStream,
};
use hyper::Uri;
use tokio::{net::TcpStream, time::timeout};

use super::{
    fleet::{EdgeSeen, Report},
    shared::{Bases, Keys, Snapshot, exceptions_text, record_text},
    task::Proposal,
};
use crate::config;

/// How long an edge counts as there after its last word.
pub(super) const LIFE: Duration = Duration::from_secs(10);
/// How often the connection is tried while nothing is said, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(3));
/// What is read at once: a value is at most as large as `--max-request-bytes` of etcd has it, 1.5 MiB.
const LARGEST: usize = 256 << 20;

/// What is under the prefix at one moment.
pub(super) struct View {
    /// The revision of etcd then.
    pub(super) revision: i64,
    /// What is shared.
    pub(super) snapshot: Snapshot,
    /// What edges said of themselves, by their names.
    pub(super) edges: BTreeMap<String, EdgeSeen>,
    /// Who holds this edge's name.
    holder: Option<String>,
}

/// A member of etcd that answers.
pub(super) struct Session<'a> {
    settings: &'a config::Store,
    keys: &'a Keys,
    edge: &'a str,
    id: &'a str,
    client: Client,
    kv: KvClient,
    lease: Option<Lease>,
}

struct Lease {
    id: i64,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

impl<'a> Session<'a> {
    /// Connects to a member.
    pub(super) async fn open(
        endpoint: &str,
        settings: &'a config::Store,
        keys: &'a Keys,
        (edge, id): (&'a str, &'a str),
    ) -> Result<Self> {
        let limit = settings.timeout;
        // The client itself would try for as long as a request may take, and not say what is wrong.
        reach(endpoint, limit).await?;
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_connect_timeout(limit)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true);
        if endpoint.starts_with("https://") {
            options = options.with_tls(tls(settings)?);
        }
        if let Some(login) = &settings.login {
            let file = login.password_file.display();
            let password = fs::read_to_string(&login.password_file)
                .with_context(|| format!("read the password in {file}"))?;
            options = options.with_user(&login.user, password.trim_end_matches(['\r', '\n']));
        }
        let client = within(limit, Client::connect([endpoint], Some(options))).await?;
        let kv = client.kv_client().max_decoding_message_size(LARGEST);
        Ok(Self { settings, keys, edge, id, client, kv, lease: None })
    }

    /// Reads what a majority of the members agrees on.
    pub(super) async fn read(&mut self) -> Result<View> {
        let options = GetOptions::new().with_prefix();
        let found =
            within(self.settings.timeout, self.kv.get(self.keys.all(), Some(options))).await?;
        let header = found.header().context("etcd's answer has no header")?;
        let named: BTreeMap<&str, _> =
            found.kvs().iter().filter_map(|kv| Some((kv.key_str().ok()?, kv))).collect();
        let value = |key: String| named.get(&*key).map(|kv| (kv.mod_revision(), kv.value()));
        let keys = self.keys;
        let snapshot = Snapshot::read(
            header.cluster_id(),
            keys,
            value(keys.services()),
            value(keys.exceptions()),
            value(keys.change()),
        );
        let mut edges: BTreeMap<String, EdgeSeen> = BTreeMap::new();
        for (key, kv) in &named {
            if let Some(name) = keys.edge_of(key) {
                // What cannot be understood is of another version, or nobody's; that it is there is told.
                let report = serde_json::from_slice(kv.value()).unwrap_or_default();
                let report = Report { name: name.to_owned(), ..report };
                edges.entry(name.to_owned()).or_default().report = report;
            } else if let Some(name) = keys.alive_of(key) {
                let seen = edges.entry(name.to_owned()).or_default();
                seen.alive = true;
                name.clone_into(&mut seen.report.name);
            }
        }
        let holder = value(keys.alive(self.edge));
        let holder = holder.map(|(_, id)| String::from_utf8_lossy(id).into_owned());
        Ok(View { revision: header.revision(), snapshot, edges, holder })
    }

    /// Tells of every change from the revision after `view` on.
    pub(super) async fn watch(&mut self, view: &View) -> Result<WatchStream> {
        let options = WatchOptions::new().with_prefix().with_start_revision(view.revision + 1);
        let started = self.client.watch(self.keys.all(), Some(options));
        within(self.settings.timeout, started).await
    }

    /// Writes what is proposed, if the keys still are as it has them. Returns its revision; `None`: they are
    /// not.
    pub(super) async fn write(&mut self, proposal: &Proposal) -> Result<Option<i64>> {
        let keys = self.keys;
        let Bases { services, exceptions, change } = proposal.bases;
        let is = |key, revision| Compare::mod_revision(key, CompareOp::Equal, revision);
        let unchanged = [
            is(keys.services(), services),
            is(keys.exceptions(), exceptions),
            is(keys.change(), change),
        ];
        let written = [
            TxnOp::put(keys.services(), proposal.services.as_bytes(), None),
            TxnOp::put(keys.exceptions(), exceptions_text(&proposal.exceptions), None),
            TxnOp::put(keys.change(), record_text(&proposal.record), None),
        ];
        let txn = Txn::new().when(unchanged).and_then(written);
        let answer = within(self.settings.timeout, self.kv.txn(txn)).await?;
        let header = answer.header().context("etcd's answer has no header")?;
        Ok(answer.succeeded().then(|| header.revision()))
    }

    /// Says that this edge is there. Returns why it cannot: another one has its name.
    pub(super) async fn register(&mut self, view: &View) -> Result<Option<String>> {
        match &view.holder {
            Some(holder) if holder != self.id => {
                return Ok(Some(format!(
                    "another edge is called {} already; give each another `edge` in [store]",
                    self.edge
                )));
            }
            Some(_) if self.lease.is_some() => return Ok(None),
            _ => {}
        }
        let limit = self.settings.timeout;
        let life = i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX);
        let granted = within(limit, self.client.lease_grant(life, None)).await?;
        let id = granted.id();
        let put = PutOptions::new().with_lease(id);
        within(limit, self.kv.put(self.keys.alive(self.edge), self.id, Some(put))).await?;
        let (keeper, answers) = within(limit, self.client.lease_keep_alive(id)).await?;
        self.lease = Some(Lease { id, keeper, answers });
        Ok(None)
    }

    /// Keeps what [`Self::register`] said true for a while longer.
    pub(super) async fn stay(&mut self) -> Result<()> {
        let Some(lease) = &mut self.lease else { return Ok(()) };
        within(self.settings.timeout, lease.keeper.keep_alive()).await?;
        let answer = within(self.settings.timeout, lease.answers.message()).await?;
        match answer {
            Some(answer) if answer.ttl() > 0 => {}
            _ => self.lease = None,
        }
        Ok(())
    }

    /// Whether this edge has said that it is there.
    pub(super) fn is_registered(&self) -> bool {
        self.lease.is_some()
    }

    /// Says how this edge is.
    pub(super) async fn report(&mut self, report: &Report) -> Result<()> {
        let text = serde_json::to_string(report)? + "\n";
        within(self.settings.timeout, self.kv.put(self.keys.edge(self.edge), text, None)).await?;
        Ok(())
    }

    /// Takes away what an edge said. Returns whether it had said anything.
    pub(super) async fn forget(&mut self, edge: &str) -> Result<bool> {
        let gone =
            within(self.settings.timeout, self.kv.delete(self.keys.edge(edge), None)).await?;
        Ok(gone.deleted() > 0)
    }

    /// Says that this edge goes: its name is free at once.
    pub(super) async fn leave(&mut self) -> Result<()> {
        if let Some(lease) = self.lease.take() {
            within(self.settings.timeout, self.client.lease_revoke(lease.id)).await?;
        }
        Ok(())
    }
}

/// Waits for an answer, but not for ever.
async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<T> {
    match timeout(limit, asked).await {
        Ok(answer) => answer.map_err(plain),
        Err(_) => bail!("no answer within {}", humantime::format_duration(limit)),
    }
}

/// An error of etcd's in its own words.
pub(super) fn plain(error: Error) -> anyhow::Error {
    match error {
        Error::GRpcStatus(status) => anyhow!("{}", told(status.message())),
        error => error.into(),
    }
}

/// What etcd says, with the way out where that is ours to know.
fn told(message: &str) -> String {
    let way_out = if message.contains("request is too large") {
        "; raise --max-request-bytes of every member"
    } else if message.contains("database space exceeded") {
        "; compact and defragment it, and disarm its alarm (`etcdctl alarm disarm`)"
    } else if message.contains("permission denied") || message.contains("user name is empty") {
        "; see user and password_file in [store]"
    } else {
        ""
    };
    format!("{message}{way_out}")
}

/// Whether somebody listens at an endpoint.
async fn reach(endpoint: &str, limit: Duration) -> Result<()> {
    let uri: Uri = endpoint.parse()?;
    let host = uri.host().context("it has no host")?.trim_matches(['[', ']']);
    let port = uri.port_u16().context("it has no port")?;
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(reached) => reached.map(drop).map_err(|error| anyhow!("{error}")),
        Err(_) => bail!("no answer within {}", humantime::format_duration(limit)),
    }
}

fn tls(settings: &config::Store) -> Result<TlsOptions> {
    let read =
        |path: &std::path::Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let tls = match &settings.ca_file {
        Some(path) => TlsOptions::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => TlsOptions::new().with_native_roots(),
    };
    Ok(match &settings.identity {
        Some(identity) => tls.identity(Identity::from_pem(
            read(&identity.certificate_file)?,
            read(&identity.key_file)?,
        )),
        None => tls,
    })
}
