//! What the program says of single packets, where `evenkeel run --log-drops` asks for it.
//!
//! Unasked, the level is a constant zero to the verifier, which then removes all of this: a packet
//! pays nothing for it.

use aya_ebpf::bindings::xdp_md;
use aya_log_ebpf::info;
use lb_common::{net::Address as _, verdict::Verdict};
use lb_ebpf::{ethernet::Ethernet, family::Family};

/// Logs a dropped packet: its verdict, and from where to where it was.
#[inline(always)]
pub fn dropped<F: Family>(context: *mut xdp_md, verdict: Verdict) {
    let mut frame = crate::frame(context);
    let Some(_) = frame.take::<Ethernet>() else { return };
    let Some(header) = frame.take::<F::Header>() else { return };
    let (source, destination) = (F::source(header).ip(), F::destination(header).ip());
    // The program cannot hold a table of texts, only texts where they are used.
    macro_rules! named {
        ($($verdict:ident: $text:literal),+) => {
            match verdict {
                $(Verdict::$verdict => info!(context, $text, source, destination),)+
                _ => {}
            }
        };
    }
    named!(
        DROP_MALFORMED_IP: "drop-malformed-ip: {:i} to {:i}",
        DROP_MALFORMED_TRANSPORT: "drop-malformed-transport: {:i} to {:i}",
        DROP_NO_BACKEND: "drop-no-backend: {:i} to {:i}",
        DROP_NO_SOURCE_PORT: "drop-no-source-port: {:i} to {:i}",
        DROP_TABLE_FULL: "drop-table-full: {:i} to {:i}",
        DROP_INTERNAL: "drop-internal: {:i} to {:i}"
    );
}
