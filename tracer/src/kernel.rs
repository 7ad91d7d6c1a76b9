//! The live source: what the running kernel is asked and what is loaded into it.
//!
//! [`live::Live`] is the whole of it. Below it: what this kernel offers ([`facts`]) and what is
//! made of that ([`plan`]), how it is carried out ([`object`], [`load`], [`attach`], [`netfilter`]),
//! where netfilter hooks are seen ([`coverage`], [`rules`]), how records are read and accounted for
//! (`ring`, `loss`, `owners`), what it all costs ([`cost`], [`expense`]) and may cost ([`budget`]).

pub mod attach;
mod bpf;
pub mod btf;
pub mod budget;
pub mod cast;
pub mod checkup;
pub mod clock;
pub mod cost;
pub mod coverage;
pub mod expense;
pub mod facts;
pub mod faults;
mod limits;
pub mod live;
pub mod load;
mod loss;
pub mod netfilter;
pub mod object;
mod owners;
pub mod plan;
mod ring;
pub mod rules;
pub mod symbols;
