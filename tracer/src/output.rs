//! What people and programs are shown: one module for each format.

pub mod sanitize;
