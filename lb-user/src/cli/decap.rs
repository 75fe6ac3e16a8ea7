//! `evenkeel decap`: its arguments, and how its counters are shown.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::Result;
use clap::Args;
use lb_common::decap::ALL;

use super::{Format, Output, output};
use crate::{
    config::{NotAPrefix, Prefix, XdpMode},
    decap::{Report, Settings, run},
};

#[derive(Args, Debug)]
pub struct DecapArgs {
    /// Interface that the edges' packets come in by; may be given again
    #[arg(long = "interface", value_name = "NAME", required = true)]
    interfaces: Vec<String>,
    /// Service address that this backend answers for, like 192.0.2.10; may be given again
    #[arg(long = "address", value_name = "ADDRESS", required = true, value_parser = address)]
    addresses: Vec<IpAddr>,
    /// Prefix of the edges' outer source addresses, like 198.18.0.0/16; may be given again
    #[arg(long = "from", value_name = "PREFIX", required = true, value_parser = prefix)]
    edges: Vec<Prefix>,
    /// UDP port of GUE
    #[arg(long, value_name = "PORT", default_value_t = 6080,
        value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,
    /// auto, native or generic; auto takes native where the driver can
    #[arg(long, value_name = "MODE", default_value_t)]
    xdp_mode: XdpMode,
    /// Print the counters every so often, like 10s; they are printed at the end in any case
    #[arg(long, value_name = "INTERVAL", value_parser = period)]
    counters: Option<Duration>,
    #[command(flatten)]
    format: Format,
}

/// Runs the decapsulator as the arguments say.
pub async fn unwrap(args: DecapArgs) -> Result<()> {
    let DecapArgs { interfaces, addresses, edges, gue_port, xdp_mode, counters, format } = args;
    let settings = Settings {
        interfaces: interfaces.into_iter().collect(),
        addresses: addresses.into_iter().collect(),
        edges: edges.into_iter().collect::<BTreeSet<_>>(),
        gue_port,
        mode: xdp_mode,
    };
    run(&settings, counters, |report| print(report, format.output)).await
}

fn print(report: &Report, format: Output) -> Result<()> {
    if format == Output::Json {
        return output::json(report);
    }
    let wide = format == Output::Wide;
    let mut heads = vec!["COUNTER", ">PACKETS"];
    if wide {
        heads.push("MEANING");
    }
    let mut table = output::table(&heads);
    for ((name, packets), (_, meaning)) in report.packets.iter().zip(ALL) {
        let mut row = vec![(*name).to_owned(), output::count(*packets)];
        if wide {
            row.push(meaning.to_owned());
        }
        table.add_row(row);
    }
    output::print(&format!("{}\n", output::rendered(&table)))
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "not an address; write it like 192.0.2.10 or 2001:db8::10".to_owned())?;
    let problem = match address {
        _ if address.is_unspecified() => "no packet is for the unspecified address",
        _ if address.is_multicast() => {
            "it is a multicast address, and a tunnel's packet is for one host"
        }
        _ if address.is_loopback() => "the host takes no packet for its loopback from an interface",
        IpAddr::V4(v4) if v4.is_broadcast() => "it is the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            "an IPv4 address written as IPv6; write it in its own notation"
        }
        _ => return Ok(address),
    };
    Err(problem.to_owned())
}

fn prefix(text: &str) -> Result<Prefix, String> {
    text.parse().map_err(|error| match error {
        NotAPrefix::HostBits(meant) => format!("{error}; write {meant}"),
        NotAPrefix::Length(bits) => format!("{error}, which has {bits} bits"),
        NotAPrefix::Mapped => format!("{error}; write it in its own notation"),
        NotAPrefix::Syntax => format!("{error}; write it like 198.18.0.0/16 or 100::/64"),
    })
}

fn period(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(1)..=Duration::from_hours(24);
    match humantime::parse_duration(text) {
        Ok(period) if allowed.contains(&period) => Ok(period),
        Ok(_) => Err("it can be 1s to 1d".to_owned()),
        Err(error) => Err(format!("{error}; write it like 10s or 5m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_work_are_refused_with_the_way_out() {
        assert!(address("192.0.2.10").is_ok());
        assert!(address("2001:db8::10").is_ok());
        for (text, told) in [
            ("web", "write it like"),
            ("192.0.2.10/32", "write it like"),
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("127.0.0.1", "loopback"),
            ("255.255.255.255", "broadcast"),
            ("::ffff:192.0.2.10", "own notation"),
        ] {
            let error = address(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!(prefix("198.18.0.0/16").unwrap().to_string(), "198.18.0.0/16");
        assert_eq!(prefix("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        for (text, told) in [
            ("198.18.0.1/16", "write 198.18.0.0/16"),
            ("198.18.0.0/33", "32 bits"),
            ("edge", "write it like"),
            ("::ffff:198.18.0.0/112", "own notation"),
        ] {
            let error = prefix(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!(period("10s").unwrap(), Duration::from_secs(10));
        for text in ["0s", "900ms", "2d"] {
            assert!(period(text).unwrap_err().contains("1s to 1d"), "{text}");
        }
        assert!(period("often").unwrap_err().contains("like 10s"));
    }
}
