//! What the node knows: the names behind the numbers that events carry.

pub mod netlink;
pub mod netns;
pub mod reasons;
#[cfg(test)]
pub(crate) mod testing;
