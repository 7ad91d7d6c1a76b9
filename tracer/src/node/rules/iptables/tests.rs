//! The whole of it on texts: real ones, made ones, wrong ones.

mod evaluate;
mod fixtures;
mod oracle;
mod parse;
mod services;
mod size;
mod translations;
