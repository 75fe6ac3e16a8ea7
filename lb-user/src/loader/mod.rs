//! The data path's life outside the daemon: loading the programs, pinning, attaching, taking over
//! what an earlier daemon left, and removing it all.

mod attach;
mod bpffs;
mod devices;
mod explain;
mod grip;
mod keeper;
mod kernel_version;
mod load;
mod pinned;
mod replace;

pub use self::{
    attach::Attachments,
    bpffs::{Pins, is_bpffs},
    devices::mode,
    explain::Explain,
    grip::{Grip, Pinned},
    keeper::{Attachment, Interfaces},
    kernel_version::check as check_kernel,
    load::{Datapath, Manner, Programs, Sizes, load, load_unpinned, memory},
    replace::Replacement,
};
