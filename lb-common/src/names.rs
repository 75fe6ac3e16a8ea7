//! Names of the maps and programs, as they are pinned and as the object file has them.

/// Version of the maps' layout, raised with every change of a map's type, sizes, or of what its values
/// mean, such as verdicts' numbers. A controller takes over pinned maps of its own version only; which
/// maps a version changed is noted at each of them in `lb-user/src/dataplane/layout.rs`.
pub const LAYOUT_VERSION: u32 = if cfg!(feature = "next-layout") { 5 } else { 4 };

/// The version that changed [`crate::client::Affinity`].
pub const AFFINITIES_SINCE: u32 = if cfg!(feature = "next-layout") { LAYOUT_VERSION } else { 2 };

/// The XDP program that the interfaces run.
pub const PROGRAM: &str = "evenkeel";
/// The program that ends connections, run by the controller only.
pub const EXPIRE_PROGRAM: &str = "expire";
/// The program that tells what would become of a connection, run by the controller only.
pub const EXPLAIN_PROGRAM: &str = "explain";

/// One element: [`LAYOUT_VERSION`].
pub const LAYOUT: &str = "LAYOUT";
/// One element: the [`crate::filter::Bitmap`].
pub const ADDRESS_FILTER: &str = "ADDRESS_FILTER";
/// One element: [`crate::node::NodeSettings`].
pub const NODE: &str = "NODE";
/// One element: [`crate::node::NodeState`].
pub const NODE_STATE: &str = "NODE_STATE";
/// Service addresses of IPv4, exactly → bits of [`crate::node::address`].
pub const ADDRESSES_V4: &str = "ADDRESSES_V4";
/// Service addresses of IPv6.
pub const ADDRESSES_V6: &str = "ADDRESSES_V6";
/// [`crate::service::ServiceKey`] → [`crate::service::Service`], IPv4.
pub const SERVICES_V4: &str = "SERVICES_V4";
/// The same for IPv6.
pub const SERVICES_V6: &str = "SERVICES_V6";
/// Service id → [`crate::service::ServiceCursor`].
pub const SERVICE_CURSORS: &str = "SERVICE_CURSORS";
/// Service id → inner array of backend ids, see [`crate::ring`].
pub const RINGS: &str = "RINGS";
/// Backend id → [`crate::backend::Backend`], IPv4.
pub const BACKENDS_V4: &str = "BACKENDS_V4";
/// The same for IPv6.
pub const BACKENDS_V6: &str = "BACKENDS_V6";
/// Service id → [`crate::service::ServiceSettings`].
pub const SERVICE_SETTINGS: &str = "SERVICE_SETTINGS";
/// Backend id → [`crate::backend::Tunnel`].
pub const TUNNELS: &str = "TUNNELS";
/// Backend id → [`crate::backend::BackendState`].
pub const BACKEND_STATES: &str = "BACKEND_STATES";
/// Backend id → [`crate::counters::BackendCounters`] a CPU.
pub const BACKEND_COUNTERS: &str = "BACKEND_COUNTERS";
/// Verdict → packets a CPU.
pub const VERDICTS: &str = "VERDICTS";
/// [`crate::connection::Flow`] → [`crate::connection::Connection`], IPv4.
pub const CONNECTIONS_V4: &str = "CONNECTIONS_V4";
/// The same for IPv6.
pub const CONNECTIONS_V6: &str = "CONNECTIONS_V6";
/// Place → [`crate::connection::Flow`] of the unconfirmed connection that has it, IPv4.
pub const UNCONFIRMED_V4: &str = "UNCONFIRMED_V4";
/// The same for IPv6.
pub const UNCONFIRMED_V6: &str = "UNCONFIRMED_V6";
/// [`crate::client::ClientKey`] → [`crate::client::Affinity`], IPv4.
pub const AFFINITIES_V4: &str = "AFFINITIES_V4";
/// The same for IPv6.
pub const AFFINITIES_V6: &str = "AFFINITIES_V6";
/// [`crate::client::ClientKey`] → when the client prefix's next connection is due, IPv4.
pub const CLIENT_LIMITS_V4: &str = "CLIENT_LIMITS_V4";
/// The same for IPv6.
pub const CLIENT_LIMITS_V6: &str = "CLIENT_LIMITS_V6";
/// [`crate::client::PrefixKey`] → one of [`crate::client::prefix`], IPv4.
pub const PREFIXES_V4: &str = "PREFIXES_V4";
/// The same for IPv6.
pub const PREFIXES_V6: &str = "PREFIXES_V6";
/// [`crate::fragment::FragmentKey`] → [`crate::fragment::FirstFragment`], IPv4.
pub const FRAGMENTS_V4: &str = "FRAGMENTS_V4";
/// The same for IPv6.
pub const FRAGMENTS_V6: &str = "FRAGMENTS_V6";
/// Service id → [`crate::record::ServiceRecord`].
pub const SERVICE_RECORDS: &str = "SERVICE_RECORDS";
/// Backend id → [`crate::record::BackendRecord`].
pub const BACKEND_RECORDS: &str = "BACKEND_RECORDS";
