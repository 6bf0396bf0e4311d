//! Errors of the search for a wasm layer. Their texts reach users through containerd.

use std::time::Duration;

use crate::digest::Digest;

/// Error of the search for a wasm layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No connection to containerd's address.
    #[error("containerd at {address} cannot be asked for an image: {reason}")]
    Unreachable {
        /// containerd's gRPC socket.
        address: String,
        /// Error text of the system or the transport.
        reason: String,
    },
    /// containerd did not answer in time.
    #[error("containerd at {address} has not answered for {limit:?} when it was asked for {what}")]
    Silent {
        /// containerd's gRPC socket.
        address: String,
        /// The requested object.
        what: String,
        /// The timeout.
        limit: Duration,
    },
    /// containerd answered with an error.
    #[error("containerd refuses {what}: {reason}")]
    Refused {
        /// The requested object.
        what: String,
        /// Error text of containerd.
        reason: String,
    },
    /// The container was created without an image.
    #[error("the container has no image")]
    NoImage,
    /// There is no image of that name. It may have been deleted.
    #[error("containerd has no image {image}")]
    Unknown {
        /// Name of the image in the container's record.
        image: String,
    },
    /// The CRI cannot tell two images apart.
    #[error(
        "images {image} and {other} have the same config ({config}), so in pods either may be run \
         in place of the other: push them with configs that depend on their content"
    )]
    SameConfig {
        /// Name of the image in the container's record.
        image: String,
        /// Name of the other image.
        other: String,
        /// Digest of the config.
        config: Digest,
    },
    /// The image has no wasm layer.
    #[error("image {image} has no wasm layer, only {}", list(layers))]
    NoWasm {
        /// Name of the image.
        image: String,
        /// Media types of its layers.
        layers: Vec<String>,
    },
    /// The image has no manifest for wasm or for this machine.
    #[error("image {image} is for none of wasm and this machine, only for {}", list(there))]
    NoPlatform {
        /// Name of the image.
        image: String,
        /// Platforms of its manifests.
        there: Vec<String>,
    },
    /// The image has several wasm layers, all with other titles.
    #[error("image {image} has no wasm layer {name}, only {}", list(there))]
    NoSuchLayer {
        /// Name of the image.
        image: String,
        /// `args[0]` without the export.
        name: String,
        /// Titles of its wasm layers.
        there: Vec<String>,
    },
    /// More than one wasm layer has this title.
    #[error("image {image} has more than one wasm layer {name}")]
    Ambiguous {
        /// Name of the image.
        image: String,
        /// `args[0]` without the export.
        name: String,
    },
    /// The content store lacks a blob.
    #[error("{digest} is not in containerd's content store")]
    Missing {
        /// Digest of the blob.
        digest: Digest,
    },
    /// The content of a blob does not match its digest or its length.
    #[error("{digest} is damaged in containerd's content store: {reason}")]
    Damaged {
        /// Digest of the blob.
        digest: Digest,
        /// The difference.
        reason: String,
    },
    /// A blob is larger than the limit.
    #[error("{digest} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Digest of the blob.
        digest: Digest,
        /// Declared length, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// There is no memory for a blob.
    #[error("no memory for the {bytes} bytes of {digest}: {reason}")]
    NoMemory {
        /// Digest of the blob.
        digest: Digest,
        /// Declared length, in bytes.
        bytes: u64,
        /// Error text of the allocator.
        reason: String,
    },
    /// A blob is no valid index or manifest.
    #[error("{digest} is no manifest of an image: {reason}")]
    Malformed {
        /// Digest of the blob.
        digest: Digest,
        /// The defect.
        reason: String,
    },
    /// The digest of a blob is not SHA-256, so it cannot be verified.
    #[error("{digest:?} is no SHA-256 digest")]
    Digest {
        /// The digest.
        digest: String,
    },
}

/// Largest number of list items in an error text.
// Enough to recognize an image. An untrusted one may have thousands of layers.
const MAX_ITEMS: usize = 10;

fn list(all: &[String]) -> String {
    let mut text = all.iter().take(MAX_ITEMS).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(MAX_ITEMS) {
        None | Some(0) => {}
        Some(more) => text.push_str(&format!(" and {more} more")),
    }
    if all.is_empty() { "nothing".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn list_is_cut_after_ten_items_and_an_empty_list_reads_nothing() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(list(&names(0)), "nothing");
        assert_eq!(list(&names(2)), "0, 1");
        assert_eq!(list(&names(10)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(list(&names(12)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
    }
}
