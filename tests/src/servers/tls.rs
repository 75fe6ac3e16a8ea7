//! A real nginx that speaks TLS on a backend, for probes: its certificate can be renewed.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::TLS_PORT;
use crate::{
    process::Process,
    topology::{Family, Host},
    wait::eventually,
};

const START: Duration = Duration::from_secs(10);

/// nginx on [`TLS_PORT`] of one backend; `/healthz` answers `ok`.
#[derive(Debug)]
pub struct TlsNginx {
    process: Option<Process>,
    prefix: PathBuf,
}

impl TlsNginx {
    /// Starts it on `host` with a certificate and its key in PEM, its files below `directory`, and
    /// waits until it listens.
    pub fn start(host: &Host, directory: &Path, certificate: &str, key: &str) -> Result<Self> {
        let prefix = directory.join(format!("tls-{}", host.name));
        fs::create_dir_all(&prefix).with_context(|| format!("make {}", prefix.display()))?;
        let mut nginx = Self { process: None, prefix };
        fs::write(nginx.prefix.join("nginx.conf"), configuration(&nginx.prefix))?;
        nginx.renew(host, certificate, key)?;
        Ok(nginx)
    }

    /// Gives it another certificate, as renewing it would.
    pub fn renew(&mut self, host: &Host, certificate: &str, key: &str) -> Result<()> {
        drop(self.process.take());
        fs::write(self.prefix.join("certificate.pem"), certificate)?;
        fs::write(self.prefix.join("key.pem"), key)?;
        let mut command = host.namespace.command("nginx");
        command.arg("-p").arg(&self.prefix).arg("-c").arg(self.prefix.join("nginx.conf"));
        command.arg("-e").arg(self.prefix.join("error.log"));
        let mut process = Process::start("nginx", command, &self.prefix)?;
        eventually(&format!("nginx with TLS on {} listens", host.name), START, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.tail());
            let server = host.address(Family::V4, TLS_PORT);
            host.namespace.run(|| Ok(TcpStream::connect(server).map(drop)?))
        })?;
        self.process = Some(process);
        Ok(())
    }
}

fn configuration(prefix: &Path) -> String {
    let prefix = prefix.display();
    format!(
        r#"daemon off;
master_process off;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    server {{
        listen 0.0.0.0:{TLS_PORT} ssl;
        ssl_certificate {prefix}/certificate.pem;
        ssl_certificate_key {prefix}/key.pem;
        location = /healthz {{ return 200 "ok\n"; }}
    }}
}}
"#
    )
}
