//! The live view: a node's flows on a terminal, one key from any packet's journey.
//!
//! Three parts. The **model** ([`model`]) is what there is to be shown: it is filled by the pipeline
//! through [`feed`] in the thread that traces (or plays a recording), is bounded, and behind a lock
//! that is held for a moment only. The **app** ([`app`]) is what the user made of the screen: which
//! screen, which row, which filter. Keys and clicks change it and give back what is to be done
//! outside (quit, copy, save, play on). The **view** ([`view`]) draws both into a buffer. All three are
//! pure: no terminal, no clock, no files; the terminal's own side is in `cli::screen`.
//!
//! Colours are the terminal's own sixteen, so that they fit its background, and nothing is told by
//! colour alone. What stands on a screen is drawn from one consistent state of the model.

pub mod app;
pub mod feed;
pub mod model;
#[cfg(test)]
mod tests;
pub mod view;
