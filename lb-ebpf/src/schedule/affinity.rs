//! Sticky clients: a client keeps its backend for a while, whatever the scheduler says.

use aya_ebpf::bindings::BPF_ANY;
use lb_common::{
    backend::flags::ACTIVE,
    client::{Affinity, ClientKey},
    service::ServiceSettings,
};

use crate::{
    connection::seconds,
    maps::{Key, Tables},
};

/// The backend that a client keeps, if it still gets connections.
#[inline(always)]
pub fn recall<F: Tables>(
    service: u32,
    settings: &ServiceSettings,
    client: &F::Address,
) -> Option<u32> {
    let Key(key) = &Key(ClientKey { service, address: *client });
    let known = F::affinities().get_ptr(key)?;
    // SAFETY: valid while the program runs; two words, of which a torn reading is an older client's
    // affinity or a younger one.
    let Affinity { backend, seen, .. } = unsafe { known.read() };
    if seconds().wrapping_sub(seen) > settings.sticky {
        return None;
    }
    let entry = F::backends().get(backend)?;
    (entry.flags & ACTIVE != 0 && entry.service == service).then_some(backend)
}

/// Remembers a client's backend, where its service is sticky.
#[inline(always)]
pub fn remember<F: Tables>(
    service: u32,
    settings: &ServiceSettings,
    client: &F::Address,
    backend: u32,
) {
    if settings.sticky == 0 {
        return;
    }
    let Key(key) = &Key(ClientKey { service, address: *client });
    let affinity = Affinity::new(backend, seconds());
    // The kernel makes room by forgetting another client; should it fail, this one is forgotten.
    let _ = F::affinities().insert(key, affinity, u64::from(BPF_ANY));
}
