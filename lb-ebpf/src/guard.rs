//! Guards: who may open a connection, and how often.

use lb_common::{
    client::{ClientKey, NODE_SCOPE, prefix},
    net::Address as _,
    node,
    service::{Limit, ServiceSettings, flags},
    verdict::Verdict,
};

use crate::{
    connection::nanoseconds,
    maps::{self, Key, Tables},
};

/// Times a limit's state is tried to be changed while other CPUs change it, too.
const TRIES: u32 = 4;

/// Lets a client open a connection to a service, or says why not. `TAKES`: where there is a limit a token is
/// taken; otherwise this is a question, and none is.
#[inline(always)]
pub fn admit<F: Tables, const TAKES: bool>(
    service: u32,
    settings: &ServiceSettings,
    client: &F::Address,
) -> Result<(), Verdict> {
    let node = maps::node().ok_or(Verdict::DROP_INTERNAL)?;
    let listed = node.flags & node::flags::HAS_PREFIXES != 0;
    let others_denied = node.flags & node::flags::DENY_OTHERS != 0;
    if listed && !allowed::<F>(NODE_SCOPE, client, others_denied) {
        return Err(Verdict::DROP_DENIED);
    }
    let listed = settings.flags & flags::HAS_PREFIXES != 0;
    let others_denied = settings.flags & flags::DENY_OTHERS != 0;
    if listed && !allowed::<F>(service, client, others_denied) {
        return Err(Verdict::DROP_DENIED);
    }
    if settings.client_limit.interval != 0
        && !client_is_within::<F, TAKES>(service, settings, client)
    {
        return Err(Verdict::DROP_CLIENT_LIMIT);
    }
    if settings.limit.interval != 0 {
        let due = maps::service_due(service).ok_or(Verdict::DROP_INTERNAL)?;
        if !passes::<TAKES>(&settings.limit, due) {
            return Err(Verdict::DROP_SERVICE_LIMIT);
        }
    }
    Ok(())
}

/// Whether a scope's prefixes allow a client: the longest one that matches says so.
#[inline(always)]
fn allowed<F: Tables>(scope: u32, client: &F::Address, others_denied: bool) -> bool {
    match maps::longest_prefix::<F>(scope, *client) {
        Some(said) => said != prefix::DENY,
        None => !others_denied,
    }
}

#[inline(always)]
fn client_is_within<F: Tables, const TAKES: bool>(
    service: u32,
    settings: &ServiceSettings,
    client: &F::Address,
) -> bool {
    let Key(key) = &Key(ClientKey { service, address: client.prefix(settings.client_prefix) });
    if let Some(due) = F::client_limits().get_ptr_mut(key) {
        return passes::<TAKES>(&settings.client_limit, due);
    }
    if !TAKES {
        return true;
    }
    // The first connection of a client not remembered; where two CPUs have one, both pass.
    let due = nanoseconds().wrapping_add(settings.client_limit.interval);
    // The kernel makes room by forgetting another client; should it fail, the limit is not kept.
    let _ = F::client_limits().insert(key, due, 0);
    true
}

/// Takes a token, or only looks whether there is one.
#[inline(always)]
fn passes<const TAKES: bool>(limit: &Limit, due: *mut u64) -> bool {
    if TAKES {
        is_within(limit, due)
    } else {
        maps::read_shared(due) <= nanoseconds().wrapping_add(limit.tolerance)
    }
}

/// Takes a token: the generic cell rate algorithm keeps only when the next one is due.
#[inline(always)]
pub fn is_within(limit: &Limit, due: *mut u64) -> bool {
    let now = nanoseconds();
    for _ in 0..TRIES {
        let seen = maps::read_shared(due);
        if seen > now.wrapping_add(limit.tolerance) {
            return false;
        }
        let next = if seen > now { seen } else { now };
        if maps::change_shared(due, seen, next.wrapping_add(limit.interval)) {
            return true;
        }
    }
    // So much goes on at once that a token more or less does not matter.
    true
}
