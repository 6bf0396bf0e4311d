//! Paths of a guest: resolved below one of its directories, as `chroot(2)` into the container's
//! root would resolve them, and the calls that take a path.
//!
//! An absolute symbolic link leads to the container's root, and `..` in a link does not lead above
//! it. A path that a guest gives is relative, and its own `..` does not lead above the directory of
//! the call: WASI asks for both.
//!
//! ```text
//! below "/", no `..` in the text ─▶ openat2(RESOLVE_IN_ROOT): the kernel resolves all links
//! any other                      ─▶ openat2(RESOLVE_BENEATH) ─▶ a link leads out of the directory
//!                                                              ─▶ `walk`, up to an absolute link
//!                                                              ─▶ openat2(RESOLVE_IN_ROOT)
//! ```
//!
//! So an opening is one system call, unless a link leads out of a directory below the root: no
//! `openat2(2)` begins there and ends at another root. Every step has descriptors for its
//! directory, so nothing that another process renames meanwhile leads out of the container.
//!
//! | module | content |
//! |---|---|
//! | `start` | directories of a guest |
//! | `resolve` | an opening below one |
//! | `walk` | the way of links that lead out of a directory |
//! | `calls` | calls that take a path |
//! | `mount_point` | refusal to remove, rename or replace a mount point |
//! | `patience` | repetition of calls that renames on the host disturb |

mod calls;
mod mount_point;
mod patience;
mod resolve;
mod start;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use self::patience::patiently;
pub use self::{
    calls::{KEPT, NOW, Times, link, rename},
    start::{Roots, Start},
};
