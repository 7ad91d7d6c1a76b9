//! nftables' own rules: what `nft -j list ruleset` says.
//!
//! [`read`] makes a [`model::Ruleset`] of the listing; printed, that is the same JSON again, and each
//! rule reads as nft would print it. What is not understood is kept as it is.
//!
//! Tables that iptables-nft made are in the listing too, but not all of what they say: matches of
//! iptables are opaque there, and comments are missing. They are read through `iptables-nft-save`.

pub mod json;
pub mod model;
mod print;
pub mod read;
#[cfg(test)]
mod tests;
mod text;
