//! Tests of the module through its public functions: texts in, values and diagnostics out.

mod alerts;
mod announce;
mod availability;
mod edit;
mod file;
mod guards;
mod host;
mod invalid;
mod probes;
mod properties;
mod reference;
mod store;
mod texts;
mod traffic;
mod valid;
mod verify;

use std::path::Path;

use super::{Config, Invalid, Loaded};

/// A text with comments in every place that edits must respect.
const COMMENTED: &str = r#"# Evenkeel on edge-1.

[node]
interfaces = ["eth0"] # the only NIC

# The shop.
[[service]]
name = "web"
address = "192.0.2.10:80"
[service.health] # since the outage
kind = "http"
path = "/healthz"

# --- servers of rack 1 ---

# The old one.
[[service.backend]]
name = "web-01" # srv1
address = "10.0.0.11:8080"
weight = 2
# weight = 3, when it has its memory

# The new one.
[[service.backend]]
name = "web-02"
address = "10.0.0.12:8080" # srv2

# Names, over UDP.
[[service]]
name = "dns"
address = "192.0.2.10:53"
protocol = "udp"

[[service.backend]]
name = "dns-01"
address = "10.0.0.21:53"

[tables]
connections = 1000 # small host
# The end.
"#;

fn parse(text: &str) -> Result<Loaded, Invalid> {
    Config::parse(text, Path::new("evenkeel.toml"))
}

/// The text of a service `web` with two backends after `[node]`; `service` goes into the service
/// and `backend` into the second backend.
fn with(service: &str, backend: &str) -> String {
    format!(
        "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
         address = \"192.0.2.10:80\"\n{service}\n[[service.backend]]\nname = \"web-01\"\n\
         address = \"10.0.0.11:80\"\n[[service.backend]]\nname = \"web-02\"\n\
         address = \"10.0.0.12:80\"\n{backend}\n"
    )
}
