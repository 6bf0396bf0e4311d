//! containerd's configuration: which file gets the runtimes, and its new text.
//!
//! - [`distribution`]: whose containerd it is, by the files of the root.
//! - [`parse`]: a file, reduced to what a decision needs.
//! - [`imports`]: the files that a configuration imports.
//! - [`running`]: the containerds that run, and what their flags say.
//! - [`blocks`]: the parts of a text that are this program's.
//! - [`tables`]: what is in them.
//! - [`plan`]: the decision.

mod blocks;
pub(crate) mod distribution;
mod imports;
mod parse;
pub(crate) mod plan;
mod running;
mod tables;
