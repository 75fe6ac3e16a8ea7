//! The data path's life outside the daemon: loading the programs, pinning, attaching, taking over
//! what an earlier daemon left, and removing it all.

mod attach;
mod bpffs;
mod grip;
mod kernel_version;
mod load;
mod mode;
mod pinned;

pub use self::{
    attach::attach,
    bpffs::{Pins, is_bpffs},
    grip::{Grip, Pinned},
    kernel_version::check as check_kernel,
    load::{Datapath, Programs, Sizes, load, load_unpinned, memory},
    mode::mode,
};
