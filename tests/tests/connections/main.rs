//! `evenkeel connections`: what is open is listed as it is, counted, and cut by name; and a large table is
//! listed without a request noticing.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod large;
mod table;
