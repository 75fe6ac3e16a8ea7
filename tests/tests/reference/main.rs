//! The program against a model of it: random sequences of packets and changes, played in both, and a
//! storm of broken frames.
//!
//! A sequence that goes differently is made small and written to `tests/corpus/`; what is there is
//! played first. `cargo xtask fuzz` runs the same with more frames.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod load;
#[cfg(test)]
mod play;
#[cfg(test)]
mod random;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod shrink;
#[cfg(test)]
mod spec;
#[cfg(test)]
mod world;
