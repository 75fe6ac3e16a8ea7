//! What the behaviour tests, the demo and the benchmark stand on: network namespaces, the lab
//! built from them, real and tiny servers, load, a supervised daemon, and a frame builder.
//!
//! Nothing here knows how the balancer works inside. It is driven through its contract alone
//! (command line, API socket, configuration file), and the frame builder shares no code with
//! the data path, so that neither can repeat the other's mistake.

pub mod browser;
pub mod decap;
pub mod evenkeel;
pub mod frame;
pub mod http;
pub mod latency;
pub mod load;
pub mod loads;
pub mod model;
pub mod modes;
pub mod netns;
pub mod pages;
pub mod process;
pub mod servers;
pub mod settings;
pub mod stage;
pub mod systemd;
pub mod tmux;
pub mod topology;
pub mod transfer;
pub mod unix;
pub mod wait;
pub mod wire;
pub mod wrk;
pub mod xdp_pass;
