//! The rules that handle packets: what a packet is to them, what they do with it, and why.
//!
//! Shared by all forms of rules. A form (iptables, nftables) parses its own text, and evaluates by
//! walking its base chains with a [`walk::Walk`], which keeps the rules on the way, what could not be
//! decided, and what a packet may have come to. What is common to the forms is here:
//!
//! - [`subject`] and [`bits`]: a packet as rules see it at one hook, with what is not known of it;
//! - [`decision`]: matching with three values, since guessing would accuse innocent rules;
//! - [`path`]: rules as people know them, and the way through them;
//! - [`outcome`]: what rules do with a packet;
//! - [`walk`]: an evaluation of one base chain under way;
//! - [`evaluate`]: all base chains of a hook, of all forms, in order. A form takes part by its
//!   [`evaluate::RuleSet`].
//!
//! Rules may ask for sets that stand beside them: [`ipset`].
//!
//! [`held::Rules`] are all forms of one namespace at one moment, [`history::History`] how they changed.

pub mod bits;
pub mod decision;
pub mod evaluate;
pub mod held;
pub mod history;
pub mod ipset;
pub mod iptables;
pub mod live;
pub mod nftables;
pub mod outcome;
pub mod path;
pub mod source;
pub mod subject;
pub mod walk;
pub(super) mod watch;
