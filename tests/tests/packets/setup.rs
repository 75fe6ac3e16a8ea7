//! What a harness is set up with.

use evenkeel::{
    config::PrefixLists,
    plan::{NodePolicy, Policy},
};
use evenkeel_tests::topology::Family;
use lb_common::service::ServiceSettings;

use crate::world::{BACK, PORTS};

/// What the tables are filled with. Every kind has the same.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Connections that the tables hold.
    pub connections: u32,
    /// Weights of the backends.
    pub weights: Vec<u8>,
    /// How many source ports NAT has from `world::FIRST_PORT` on.
    pub ports: u16,
    /// How many source addresses NAT has.
    pub sources: u8,
    /// The interface towards the backends; zero: not known.
    pub interface: u32,
    /// MTU on the way to the backends; zero: not known.
    pub mtu: u32,
    /// Established connections that a backend takes at the most.
    pub max_connections: Option<u32>,
    /// How the services schedule, forward and guard themselves.
    pub policy: Policy,
    /// What the whole node does.
    pub node: NodePolicy,
    /// The tunnels' near end and far end's family: `None` for the service's own.
    pub far_end: Option<Family>,
    /// Places for unconfirmed connections.
    pub unconfirmed: u32,
    /// Clients that the tables remember.
    pub clients: u32,
    /// Prefixes that the tables hold.
    pub prefixes: u32,
    /// Whether the tables are pinned, as a daemon's are, so that questions can be put about them.
    pub pinned: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            connections: 1024,
            weights: vec![1],
            ports: PORTS,
            sources: 1,
            interface: BACK,
            mtu: 0,
            max_connections: None,
            policy: Policy {
                settings: ServiceSettings::default(),
                prefixes: PrefixLists::default(),
            },
            node: NodePolicy::default(),
            far_end: None,
            unconfirmed: 1024,
            clients: 1024,
            prefixes: 1024,
            pinned: false,
        }
    }
}

impl Setup {
    /// The default, with settings changed.
    pub fn settings(change: impl FnOnce(&mut ServiceSettings)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.policy.settings);
        setup
    }
}
