//! Alerts: what is wrong, since when, by which numbers, and where the playbook says what to do.
//!
//! A look's facts (`facts`) are judged by rules (`rules`, one file a concern), which remember what a
//! backend was like before (`past`); the book (`book`) makes alerts of their findings, which rise and clear
//! with hysteresis. All of that is pure: the time is passed in. `deliver` tells the outside, and `store` has what is
//! raised survive a restart.

mod book;
mod catalogue;
mod deliver;
mod desk;
pub mod facts;
mod past;
mod rules;
mod store;

pub use self::{
    book::Change,
    catalogue::{Entry, Kind, Scope, Severity, catalogue},
    desk::Desk,
    store::path,
};
