//! The pure stages of the data path: parse, decide on a connection's state, rewrite.
//!
//! They run in the kernel and on the host alike, so they are tested without root. They know bytes
//! and numbers; tables, helpers and verdict counters belong to the program (`main.rs`).

#![no_std]

pub mod answer;
pub mod checksum;
pub mod decap;
pub mod encap;
pub mod ethernet;
pub mod family;
pub mod frame;
pub mod message;
pub mod nat;
pub mod parse;
pub mod tracking;

#[cfg(test)]
extern crate std;
