//! Names of the maps and programs, as they are pinned and as the object file has them.

/// Version of every map's layout. A controller takes over pinned maps of its own version only.
pub const LAYOUT_VERSION: u32 = 1;

/// The XDP program that the interfaces run.
pub const PROGRAM: &str = "evenkeel";
/// The program that ends connections, run by the controller only.
pub const EXPIRE_PROGRAM: &str = "expire";

/// One element: [`LAYOUT_VERSION`].
pub const LAYOUT: &str = "LAYOUT";
/// One element: the [`crate::filter::Bitmap`].
pub const ADDRESS_FILTER: &str = "ADDRESS_FILTER";
/// Service addresses of IPv4, exactly; the value is not used.
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
/// Backend id → [`crate::backend::BackendCursor`].
pub const BACKEND_CURSORS: &str = "BACKEND_CURSORS";
/// Backend id → [`crate::counters::BackendCounters`] a CPU.
pub const BACKEND_COUNTERS: &str = "BACKEND_COUNTERS";
/// Verdict → packets a CPU.
pub const VERDICTS: &str = "VERDICTS";
/// [`crate::connection::Flow`] → [`crate::connection::Connection`], IPv4.
pub const CONNECTIONS_V4: &str = "CONNECTIONS_V4";
/// The same for IPv6.
pub const CONNECTIONS_V6: &str = "CONNECTIONS_V6";
/// Service id → [`crate::record::ServiceRecord`].
pub const SERVICE_RECORDS: &str = "SERVICE_RECORDS";
/// Backend id → [`crate::record::BackendRecord`].
pub const BACKEND_RECORDS: &str = "BACKEND_RECORDS";
