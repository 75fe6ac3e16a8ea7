//! Who may open a connection, and how often (DESIGN.md 4, "Guards").

use std::{net::IpAddr, time::Duration};

use super::{
    Model,
    world::{Limit, Service, leading},
};

impl Model {
    /// Lets a client open a connection to a service, or says by which verdict not.
    pub(super) fn admit(
        &mut self,
        id: u32,
        service: &Service,
        client: IpAddr,
    ) -> Result<(), &'static str> {
        for access in [&self.node.access, &service.access] {
            if !access.allows(client) {
                return Err("drop-denied");
            }
        }
        if let Some(limit) = service.client_limit {
            let bits = service.client_prefix;
            let prefix = leading(client, if client.is_ipv4() { bits.0 } else { bits.1 });
            let due = self.client_due.entry((id, prefix)).or_default();
            if !take_token(limit, due, self.now) {
                return Err("drop-client-limit");
            }
        }
        if let Some(limit) = service.limit {
            let due = self.service_due.entry(id).or_default();
            if !take_token(limit, due, self.now) {
                return Err("drop-service-limit");
            }
        }
        Ok(())
    }
}

/// Takes a token from a bucket that is known by when it will be full again.
fn take_token(limit: Limit, full: &mut Duration, now: Duration) -> bool {
    let begin = (*full).max(now);
    let room = limit.interval * limit.burst;
    if begin + limit.interval > now + room {
        return false;
    }
    *full = begin + limit.interval;
    true
}
