//! The live source: what the running kernel is asked and what is loaded into it.

pub mod btf;
pub mod load;
pub mod netfilter;
pub mod object;
pub mod rules;
pub mod symbols;
