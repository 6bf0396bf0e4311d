//! Messages of containerd's gRPC API, limited to the fields that reading an image needs.
//!
//! Written by hand after `containers.proto`, `images.proto`, `content.proto` and
//! `descriptor.proto`, with their field numbers and names. The decoder skips all other fields.

use prost::Message;

/// Request of `Containers.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// Response of `Containers.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerResponse {
    // Optional like every message field of proto3: an absent one decodes without an error.
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

/// containerd's record of a container.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    /// Name of the image of the container; empty for a container without an image.
    // A string of proto3 has no presence: an absent name decodes as the empty one.
    #[prost(string, tag = "3")]
    pub(super) image: String,
}

/// Request of `Images.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// Response of `Images.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

/// containerd's record of an image.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// The blob that the name refers to: an index or a manifest.
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

/// Request of `Images.List` without a filter.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListImagesRequest {}

/// Response of `Images.List`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListImagesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) images: Vec<Image>,
}

/// Reference to a blob: its type, digest and length.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    /// `sha256:…`
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    // Signed, as in the schema; the client converts it with a check.
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

/// Request of `Content.Read` for a whole blob.
// The schema's `offset` and `size` are left out: 0 in both requests the blob from start to end.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

/// Response of `Content.Read`: one message of a stream.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentResponse {
    /// Position of `data` in the blob.
    #[prost(int64, tag = "1")]
    pub(super) offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}
