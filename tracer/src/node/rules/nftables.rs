//! nftables' own rules.

pub mod json;
pub mod model;
mod print;
pub mod read;
#[cfg(test)]
mod tests;
mod text;
