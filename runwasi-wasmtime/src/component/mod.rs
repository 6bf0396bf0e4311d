//! Execution of components.
//!
//! | module | one thing |
//! |---|---|
//! | `store` | state of a component's store, and its construction |
//! | `descriptors` | limit of a guest's open files and sockets |
//! | `command` | a component that runs once: p2 or p3 command, or a named function |
//! | `unsent` | its output streams that still send at its end |
//! | `link` | imports of components |

pub(crate) mod command;
mod descriptors;
pub(crate) mod link;
pub(crate) mod store;
mod unsent;
