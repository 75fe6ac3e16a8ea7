//! Evenkeel's user-space half: loader, controller, API and command line.
//!
//! The way of a change: `cli` → `api` → `controller` → `plan` (what the tables shall hold) →
//! `dataplane` (the kernel's tables). The way of a fact: `health`, `nexthop` and `discovery` →
//! `controller`.
//! `config` knows the file, `loader` the programs and pins, `daemon` ties them together. `decap` is
//! the backends' side of the tunnels, a small program of its own. `verify` tries a configuration on the
//! real program, beside whatever runs. `doctor` examines the host. `http` shows readers metrics and the
//! dashboard. `connections` looks through the table of connections for people, `explain` says which backend a
//! client's next one gets.

pub mod admin;
pub mod alerts;
pub mod announce;
pub mod api;
pub mod bpf;
pub mod cli;
pub mod config;
pub mod connections;
pub mod controller;
pub mod daemon;
pub mod dataplane;
pub mod decap;
pub mod discovery;
pub mod doctor;
mod document;
pub mod events;
pub mod explain;
pub mod health;
pub mod http;
pub mod loader;
mod lock;
mod netdevice;
pub mod nexthop;
pub mod overview;
pub mod plan;
mod stamp;
mod statistics;
pub mod store;
mod tasks;
pub mod top;
pub mod verify;
