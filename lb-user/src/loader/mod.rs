//! The data path's life outside the daemon: loading the programs, pinning, attaching, taking over
//! what an earlier daemon left, and removing it all.

mod attach;
mod bpffs;
mod devices;
mod keeper;
mod kernel_version;
mod load;
mod replace;

pub use self::{
    attach::Attachments,
    bpffs::Pins,
    devices::mode,
    keeper::{Attachment, Interfaces},
    load::{Datapath, Manner, Programs, Sizes, load, load_unpinned, memory},
    replace::Replacement,
};
