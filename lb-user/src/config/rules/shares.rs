//! Whether a service's weights fit what its scheduler compiles them to.

use crate::config::{
    decode::{RawBackend, RawService},
    diagnostic::Sink,
};

/// The longest array of backends that a service's weights may compile to.
const MOST_RING_SLOTS: u64 = 1 << 20;
/// Slots of a hashing table for each backend, so that shares come out as the weights say within a
/// tenth.
const LEAST_TABLE_SLOTS: usize = 10;

pub(super) fn check(service: &RawService, sink: &mut Sink<'_, '_>) {
    match service.scheduler {
        Some(scheduler) if scheduler.hashes() => check_table(service, sink),
        Some(_) => check_ring(service, sink),
        None => {}
    }
}

fn check_table(service: &RawService, sink: &mut Sink<'_, '_>) {
    let (size, count) = (service.table_size, service.backends.len());
    let least = count * LEAST_TABLE_SLOTS;
    if u64::from(size) < least as u64 {
        let message =
            format!("table_size of {} is {size}, too small for {count} backends", service.title());
        let remedy = format!("use a prime of at least {least}; 65537 is the default");
        sink.error(&service.table_size_span, message, remedy);
        return;
    }
    let weights = || service.backends.iter().filter_map(|b| b.weight).map(u64::from);
    let (sum, least) = (weights().sum::<u64>(), weights().min().unwrap_or(1).max(1));
    if sum / least > u64::from(size) {
        let lightest = service.backends.iter().min_by_key(|backend| backend.weight);
        let message = format!(
            "the weights of {} leave {} less than one of the {size} slots of its table",
            service.title(),
            lightest.map(RawBackend::title).unwrap_or_default()
        );
        let remedy = "use weights that lie closer together, or a larger prime for table_size";
        sink.error(&service.table_size_span, message, remedy);
    }
}

/// The ring holds each backend as often as its weight says, divided by what all weights share.
fn check_ring(service: &RawService, sink: &mut Sink<'_, '_>) {
    const SHOWN: usize = 8;
    let weights = || service.backends.iter().filter_map(|b| b.weight).map(u64::from);
    let divisor = weights().fold(0, gcd).max(1);
    let slots = weights().sum::<u64>() / divisor;
    if slots <= MOST_RING_SLOTS {
        return;
    }
    let mut heaviest: Vec<&RawBackend> = service.backends.iter().collect();
    heaviest.sort_by_key(|backend| std::cmp::Reverse(backend.weight));
    let named = heaviest.iter().take(SHOWN).filter_map(|backend| {
        Some(format!("{} = {}", backend.name.as_ref()?.get_ref(), backend.weight?))
    });
    let message = format!(
        "the weights of {} make a ring of {slots} slots, more than {MOST_RING_SLOTS} \
         (heaviest: {})",
        service.title(),
        named.collect::<Vec<_>>().join(", ")
    );
    sink.error(&service.span, message, "use smaller weights in the same proportion");
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
