//! The options of `service add` that say how a service's backends are probed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Usage;
use crate::api::model::NewHealth;

/// How the backends of a new service are probed.
#[derive(Args, Debug)]
#[command(next_help_heading = "Probe")]
pub struct ProbeArgs {
    /// How its backends are probed
    #[arg(long, value_enum, default_value_t)]
    probe: Probe,
    /// Path that an http or https probe asks for [default: /]
    #[arg(long, value_name = "PATH")]
    probe_path: Option<String>,
    /// Host that an http, https or grpc probe asks for [default: the backend's address]
    #[arg(long, value_name = "NAME")]
    probe_host: Option<String>,
    /// Accept any certificate (https, grpc with --probe-tls)
    #[arg(long)]
    probe_no_verify: bool,
    /// Authorities to trust instead of the system's, in PEM (https, grpc with --probe-tls)
    #[arg(long, value_name = "FILE")]
    probe_ca_file: Option<PathBuf>,
    /// Name in the certificate where it is not the host (https, grpc with --probe-tls)
    #[arg(long, value_name = "NAME")]
    probe_server_name: Option<String>,
    /// Datagram that a udp probe sends
    #[arg(long, value_name = "TEXT")]
    probe_send: Option<String>,
    /// Text that the answer to a udp probe must contain [default: any answer]
    #[arg(long, value_name = "TEXT")]
    probe_expect: Option<String>,
    /// Service that a grpc probe asks about [default: the server as a whole]
    #[arg(long, value_name = "NAME")]
    probe_service: Option<String>,
    /// Speak TLS (grpc)
    #[arg(long)]
    probe_tls: bool,
    /// Program that an exec probe runs, by its absolute path; give the option again for each
    /// argument
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    probe_command: Vec<String>,
    /// User that it runs as [default: nobody]
    #[arg(long, value_name = "USER")]
    probe_user: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
enum Probe {
    /// Not at all: every backend counts as up
    #[default]
    None,
    /// By a TCP connection every 2 s
    Tcp,
    /// By an HTTP request every 2 s
    Http,
    /// By an HTTP request over TLS every 2 s
    Https,
    /// By a datagram that must be answered, every 2 s
    Udp,
    /// By a question to the gRPC health service every 2 s
    Grpc,
    /// By a program's exit code, every 2 s
    Exec,
}

impl ProbeArgs {
    /// The health check that the options ask for.
    ///
    /// # Errors
    /// Options that mean nothing to the kind, and those that it lacks.
    pub fn health(self) -> Result<NewHealth, Usage> {
        self.refuse_idle()?;
        let path = self.probe_path.unwrap_or_else(|| "/".to_owned());
        let (host, verify) = (self.probe_host, !self.probe_no_verify);
        let (ca_file, server_name) = (self.probe_ca_file, self.probe_server_name);
        Ok(match self.probe {
            Probe::None => NewHealth::None,
            Probe::Tcp => NewHealth::Tcp,
            Probe::Http => NewHealth::Http { path, host },
            Probe::Https => NewHealth::Https { path, host, verify, ca_file, server_name },
            Probe::Udp => {
                let send = self.probe_send;
                let send =
                    send.ok_or_else(|| Usage("--probe udp needs --probe-send".to_owned()))?;
                NewHealth::Udp { send, expect: self.probe_expect }
            }
            Probe::Grpc => {
                let (service, tls) = (self.probe_service, self.probe_tls);
                NewHealth::Grpc { service, tls, host, verify, ca_file, server_name }
            }
            Probe::Exec if self.probe_command.is_empty() => {
                return Err(Usage("--probe exec needs --probe-command".to_owned()));
            }
            Probe::Exec => NewHealth::Exec { command: self.probe_command, user: self.probe_user },
        })
    }

    fn refuse_idle(&self) -> Result<(), Usage> {
        use Probe::{Exec, Grpc, Http, Https, Udp};
        let options: [(&str, bool, &[Probe]); 11] = [
            ("--probe-path", self.probe_path.is_some(), &[Http, Https]),
            ("--probe-host", self.probe_host.is_some(), &[Http, Https, Grpc]),
            ("--probe-no-verify", self.probe_no_verify, &[Https, Grpc]),
            ("--probe-ca-file", self.probe_ca_file.is_some(), &[Https, Grpc]),
            ("--probe-server-name", self.probe_server_name.is_some(), &[Https, Grpc]),
            ("--probe-send", self.probe_send.is_some(), &[Udp]),
            ("--probe-expect", self.probe_expect.is_some(), &[Udp]),
            ("--probe-service", self.probe_service.is_some(), &[Grpc]),
            ("--probe-tls", self.probe_tls, &[Grpc]),
            ("--probe-command", !self.probe_command.is_empty(), &[Exec]),
            ("--probe-user", self.probe_user.is_some(), &[Exec]),
        ];
        for (option, given, kinds) in options {
            if given && !kinds.contains(&self.probe) {
                let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let kinds = kinds.join(" or --probe ");
                return Err(Usage(format!("{option} goes with --probe {kinds}")));
            }
        }
        let tls_only = self.probe_no_verify
            || self.probe_ca_file.is_some()
            || self.probe_server_name.is_some();
        if self.probe == Grpc && tls_only && !self.probe_tls {
            return Err(Usage("what is asked of a certificate goes with --probe-tls".to_owned()));
        }
        Ok(())
    }
}

impl Probe {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        probe: ProbeArgs,
    }

    fn health(line: &str) -> Result<NewHealth, String> {
        let words = std::iter::once("add").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.probe.health().map_err(|usage| usage.to_string())
    }

    #[test]
    fn each_kind_takes_its_options() {
        let exec = health("--probe exec --probe-command /bin/check --probe-command -v").unwrap();
        let command = vec!["/bin/check".to_owned(), "-v".to_owned()];
        assert_eq!(exec, NewHealth::Exec { command, user: None });
        let http = NewHealth::Http { path: "/".to_owned(), host: None };
        assert_eq!(health("--probe http"), Ok(http));
        let udp = health("--probe udp --probe-send ping").unwrap();
        assert_eq!(udp, NewHealth::Udp { send: "ping".to_owned(), expect: None });
        let Ok(NewHealth::Grpc { tls: true, verify: false, .. }) =
            health("--probe grpc --probe-tls --probe-no-verify")
        else {
            panic!()
        };
        let Ok(NewHealth::Https { verify: true, .. }) = health("--probe https") else { panic!() };
    }

    #[test]
    fn options_of_another_kind_are_refused() {
        for (line, says) in [
            ("--probe-path /", "--probe-path goes with --probe http or --probe https"),
            ("--probe tcp --probe-send x", "--probe-send goes with --probe udp"),
            ("--probe udp", "--probe udp needs --probe-send"),
            ("--probe exec", "--probe exec needs --probe-command"),
            ("--probe grpc --probe-ca-file x", "goes with --probe-tls"),
            ("--probe http --probe-tls", "--probe-tls goes with --probe grpc"),
        ] {
            let error = health(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
