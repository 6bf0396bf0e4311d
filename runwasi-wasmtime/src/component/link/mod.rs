//! What components may import.
//!
//! | module | one thing |
//! |---|---|
//! | `linker` | all of it |
//! | `files` | the file calls that stand in front of the library's own |
//! | `names` | `wasi:sockets/ip-name-lookup` of both previews |

mod files;
pub(crate) mod linker;
pub(crate) mod names;
