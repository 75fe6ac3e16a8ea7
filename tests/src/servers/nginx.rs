//! A real nginx on a backend: one process, its files in a directory of its own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{PORT, SHOP_PORT};
use crate::{
    http,
    process::Process,
    topology::{Family, Host},
    wait::eventually,
};

const START: Duration = Duration::from_secs(10);

/// One line of the access log. Health probes are not logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asked, as the backend sees it.
    pub client: String,
    /// From which port.
    pub port: u16,
    /// For what.
    pub path: String,
    /// What the answer was.
    pub status: u16,
}

/// nginx on one backend: `/` answers the backend's name, `/healthz` answers `ok` and is not
/// logged, `/shop` is the application's ([`Shop`](super::Shop)), `/files/` serves a directory, `/slow/` serves it at 2 MB a second, and `/put/` takes
/// uploads.
#[derive(Debug)]
pub struct Nginx {
    process: Option<Process>,
    directory: PathBuf,
    prefix: PathBuf,
}

impl Nginx {
    /// Starts nginx on `host`, with its files below `directory`, and waits until it answers.
    /// `/files/` serves `files`.
    pub fn start(host: &Host, directory: &Path, files: &Path) -> Result<Self> {
        let prefix = directory.join(format!("nginx-{}", host.name));
        fs::create_dir_all(&prefix).with_context(|| format!("make {}", prefix.display()))?;
        let configuration = configuration(&host.name, &prefix, files);
        fs::write(prefix.join("nginx.conf"), configuration).context("write nginx.conf")?;
        let mut nginx = Self { process: None, directory: directory.to_owned(), prefix };
        nginx.launch(host)?;
        Ok(nginx)
    }

    /// Kills it at once, as a crash would. Its connections are reset.
    pub fn crash(&mut self) -> Result<()> {
        self.process.take().context("nginx does not run")?.kill()
    }

    /// Starts it again after [`Nginx::crash`] and waits until it answers.
    pub fn launch(&mut self, host: &Host) -> Result<()> {
        let mut command = host.namespace.command("nginx");
        command.arg("-p").arg(&self.prefix).arg("-c").arg(self.prefix.join("nginx.conf"));
        command.arg("-e").arg(self.prefix.join("error.log"));
        let mut process =
            Process::start(&format!("nginx-{}", host.name), command, &self.directory)?;
        eventually(&format!("nginx on {} answers", host.name), START, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.tail());
            let server = host.address(Family::V4, PORT);
            let answer = host.namespace.run(|| http::get(server, "/healthz"))?;
            ensure!(answer.status == 200, "status {}", answer.status);
            Ok(())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// The access log so far.
    pub fn accesses(&self) -> Result<Vec<Access>> {
        let path = self.prefix.join("access.log");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| access(line).with_context(|| format!("{}: {line:?}", path.display())))
            .collect()
    }

    /// How many requests for `path` it has answered with 200.
    pub fn served(&self, path: &str) -> Result<u64> {
        let accesses = self.accesses()?;
        let served = accesses.iter().filter(|access| access.path == path && access.status == 200);
        Ok(u64::try_from(served.count())?)
    }

    /// Where a file is that was uploaded to `/put/NAME`, if this backend got it.
    #[must_use]
    pub fn uploaded(&self, name: &str) -> PathBuf {
        self.prefix.join("put").join(name)
    }

    /// Forgets the log.
    pub fn forget(&self) -> Result<()> {
        // nginx appends, so it goes on at the start of the emptied file.
        Ok(fs::write(self.prefix.join("access.log"), "")?)
    }
}

/// Writes `megabytes` of noise that is the same on every run, for downloads.
pub fn big_file(path: &Path, megabytes: usize) -> Result<()> {
    let mut file = fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(1 << 20);
    for _ in 0..megabytes {
        block.clear();
        while block.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

fn access(line: &str) -> Option<Access> {
    let mut fields = line.split('\t');
    Some(Access {
        client: fields.next()?.to_owned(),
        port: fields.next()?.parse().ok()?,
        path: fields.next()?.to_owned(),
        status: fields.next()?.parse().ok()?,
    })
}

/// One process without a master: killing it kills the server, as a crash would.
fn configuration(name: &str, prefix: &Path, files: &Path) -> String {
    let (prefix, files) = (prefix.display(), files.display());
    format!(
        r#"daemon off;
master_process off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    log_format plain "$remote_addr\t$remote_port\t$request_uri\t$status";
    access_log {prefix}/access.log plain;
    client_body_temp_path {prefix}/body;
    client_max_body_size 1g;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    keepalive_requests 100000000;
    sendfile on;
    default_type text/plain;
    server {{
        listen 0.0.0.0:{PORT} backlog=4096;
        listen [::]:{PORT} ipv6only=on backlog=4096;
        location = / {{ return 200 "{name}\n"; }}
        location = /healthz {{ access_log off; return 200 "ok\n"; }}
        location /files/ {{ alias {files}/; }}
        location /slow/ {{ alias {files}/; limit_rate 2m; }}
        location = /shop {{ proxy_pass http://127.0.0.1:{SHOP_PORT}; }}
        location /put/ {{ root {prefix}; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"#
    )
}
