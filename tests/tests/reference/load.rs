//! The program, loaded over tables of its own.

use aya::programs::{ProgramInfo, Xdp};
pub use evenkeel::dataplane::Raw;
use evenkeel::loader::{self, Datapath, Sizes};

/// A loaded program. Its tables live for as long as it does.
pub struct Loaded(Datapath);

/// Loads the program with tables for so many connections, unconfirmed ones apart.
pub fn load(connections: u32, unconfirmed: u32) -> Loaded {
    let sizes = Sizes {
        connections,
        unconfirmed,
        clients: 1024,
        fragments: 1024,
        prefixes: 1024,
        services: 16,
        backends: 64,
    };
    Loaded(loader::load_unpinned(&sizes).unwrap())
}

impl Loaded {
    /// What packets run through.
    pub fn balancer(&self) -> &Xdp {
        self.0.programs.balancer().unwrap()
    }

    /// What ends connections.
    pub fn expire(&self) -> &Xdp {
        self.0.programs.expire().unwrap()
    }

    /// The maps that the program refers to.
    pub fn map_ids(&self) -> Vec<u32> {
        let info: ProgramInfo = self.balancer().info().unwrap();
        info.map_ids().unwrap().unwrap()
    }
}
