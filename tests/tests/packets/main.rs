//! The data path, packet by packet, through the kernel's test-run: named frames, the verdict that
//! each gets, and the bytes that leave.
//!
//! The real program runs here, attached to nothing. What it must answer is built by the frame
//! builder, with checksums computed in full; no expectation comes from the balancer's own crates.

#[cfg(test)]
mod counts;
#[cfg(test)]
mod echo;
#[cfg(test)]
mod expire;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_modes;
#[cfg(test)]
mod guards;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod icmp;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod nexthop;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod redispatch;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod schedulers;
#[cfg(test)]
mod scheduling;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod states;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod truncation;
#[cfg(test)]
mod unconfirmed;
#[cfg(test)]
mod walking;
#[cfg(test)]
mod world;
