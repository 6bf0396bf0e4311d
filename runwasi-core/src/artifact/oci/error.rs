//! Why an image gives no program. The texts reach users through containerd.

use std::time::Duration;

use crate::digest::Digest;

/// Why there is no wasm layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Nobody answers at containerd's address.
    #[error("containerd at {address} cannot be asked for an image: {reason}")]
    Unreachable {
        /// Its gRPC socket.
        address: String,
        /// What the system or the transport says.
        reason: String,
    },
    /// containerd takes too long.
    #[error("containerd at {address} has not answered for {limit:?} when it was asked for {what}")]
    Silent {
        /// Its gRPC socket.
        address: String,
        /// What was asked for.
        what: String,
        /// How long that may take.
        limit: Duration,
    },
    /// containerd answers with an error.
    #[error("containerd refuses {what}: {reason}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its words.
        reason: String,
    },
    /// The container was made without an image.
    #[error("the container has no image")]
    NoImage,
    /// There is no image of that name, perhaps no more.
    #[error("containerd has no image {image}")]
    Unknown {
        /// Its name, from the container's record.
        image: String,
    },
    /// The image is one of another kind.
    #[error("image {image} has no wasm layer, only {}", list(layers))]
    NoWasm {
        /// Its name.
        image: String,
        /// The types of its layers.
        layers: Vec<String>,
    },
    /// The image is for other platforms.
    #[error("image {image} is for none of wasm and this machine, only for {}", list(there))]
    NoPlatform {
        /// Its name.
        image: String,
        /// The platforms it is for.
        there: Vec<String>,
    },
    /// None of several layers is called so.
    #[error("image {image} has no wasm layer {name}, only {}", list(there))]
    NoSuchLayer {
        /// The image's name.
        image: String,
        /// `args[0]` without the function.
        name: String,
        /// The titles of its wasm layers.
        there: Vec<String>,
    },
    /// More than one layer is called so.
    #[error("image {image} has more than one wasm layer {name}")]
    Ambiguous {
        /// The image's name.
        image: String,
        /// `args[0]` without the function.
        name: String,
    },
    /// A blob is not there.
    #[error("{digest} is not in containerd's content store")]
    Missing {
        /// Its name.
        digest: Digest,
    },
    /// A blob is not what its name says.
    #[error("{digest} is damaged in containerd's content store: {reason}")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// What it is instead.
        reason: String,
    },
    /// A blob is larger than anything that is read.
    #[error("{digest} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Its name.
        digest: Digest,
        /// Its length.
        bytes: u64,
        /// The largest that is read.
        limit: u64,
    },
    /// An index or manifest is none.
    #[error("{digest} is no manifest of an image: {reason}")]
    Malformed {
        /// Its name.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// A blob has a name of a kind that nobody here can check.
    #[error("{digest:?} is no SHA-256 digest")]
    Digest {
        /// The name.
        digest: String,
    },
}

/// Enough to see what an image is; one may have thousands.
const SHOWN: usize = 10;

fn list(all: &[String]) -> String {
    let mut text = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => {}
        Some(more) => text.push_str(&format!(" and {more} more")),
    }
    if all.is_empty() { "nothing".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn a_long_list_is_cut_and_an_empty_one_is_a_word() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(list(&names(0)), "nothing");
        assert_eq!(list(&names(2)), "0, 1");
        assert_eq!(list(&names(10)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(list(&names(12)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
    }
}
