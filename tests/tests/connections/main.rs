//! `evenkeel connections`: what is open is listed as it is, counted, and cut by name; and a large table is
//! listed without a request noticing.

mod large;
mod table;
