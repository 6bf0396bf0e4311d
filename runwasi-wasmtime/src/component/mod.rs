//! Components.
//!
//! | module | one thing |
//! |---|---|
//! | `store` | what their stores hold and how one is made |
//! | `descriptors` | how many files and sockets a guest may have |
//! | `command` | a component that is run once: p2 or p3 command, or a named function |
//! | `link` | what components may import |

pub(crate) mod command;
mod descriptors;
pub(crate) mod link;
pub(crate) mod store;
