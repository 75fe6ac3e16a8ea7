//! What the XDP program and the controller must agree on.
//!
//! Map names, keys and values, the verdicts and their names, and the few computations that both
//! sides make alike. Every value here is plain old data with no padding: the kernel compares keys
//! byte by byte, and the controller reads values out of the kernel's tables.
//!
//! A change to the size or the meaning of any value is a change of [`names::LAYOUT_VERSION`].

#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod backend;
pub mod client;
pub mod clock;
pub mod connection;
pub mod counters;
pub mod decap;
pub mod expire;
pub mod explain;
pub mod filter;
pub mod fragment;
pub mod hash;
pub mod names;
pub mod net;
pub mod node;
pub mod record;
pub mod ring;
pub mod service;
pub mod verdict;
