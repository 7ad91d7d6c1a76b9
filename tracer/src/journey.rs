//! Events become packets, packets become flows.
//!
//! Pure: no clock, no I/O, no names. Time is what the events carry, and what
//! [`Journeys::advance`] is told.

pub mod model;
