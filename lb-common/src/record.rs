//! The registry kept beside the tables: which service and backend an id stands for.
//!
//! The program never reads it. It lets a controller that starts over a pinned data path know every
//! id again, so that connections and counters keep their owners.

use bytemuck::{Pod, Zeroable};

/// Bytes of a name at the most.
pub const MAX_NAME: usize = 63;

/// A name: UTF-8, the rest zero.
pub type Name = [u8; MAX_NAME + 1];

/// A service's id in use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceRecord {
    /// The service's name; empty where the id is free.
    pub name: Name,
    /// The virtual address; IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// Port, in the host's byte order.
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
    /// IP protocol number.
    pub protocol: u8,
}

/// A backend's id in use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BackendRecord {
    /// The backend's name; empty where the id is free.
    pub name: Name,
    /// The service's name: a removed backend may outlive its service's id.
    pub service: Name,
    /// The server's address; IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// Port, in the host's byte order.
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Family of the service's address: 4 or 6. A tunnel's far end may be of the other one.
    pub service_family: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
