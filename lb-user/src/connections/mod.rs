//! Connections for people: which ones somebody asks for (`filter`), by which names (`directory`), in which
//! order (`order`), and how many of each kind (`tally`). All pure; the walk over the table is
//! `dataplane/browse.rs`.

mod directory;
mod filter;
mod order;
mod tally;

pub use self::{
    directory::{Directory, Named},
    filter::{Asked, Filter, Refused},
    order::{Sort, Top},
    tally::{By, Group, Tally},
};
