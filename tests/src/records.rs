//! containerd's records of containers, for what `ctr` cannot make of them: a container of an image that `ctr run` refuses.
//!
//! The messages are written by hand from `containers.proto`; the numbers and names are its.

use anyhow::Result;
use prost::Message;

use crate::containers::Containers;
use crate::grpc::Client;
use crate::runtime::Image;

const CONTAINERS: &str = "containerd.services.containers.v1.Containers";

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "3")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct UpdateContainerRequest {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
    #[prost(message, optional, tag = "2")]
    update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
struct UpdateContainerResponse {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

impl Containers {
    /// Makes a container of an image, which nobody unpacks, with an empty root file system. `ctr task start` runs it.
    pub fn create_of(&self, image: &str, id: &str, args: &[&str]) -> Result<()> {
        let rootfs = self.fixture.dir().join("empty");
        std::fs::create_dir_all(&rootfs)?;
        let (name, rootfs) = (self.runtime.name(), rootfs.to_string_lossy());
        let line =
            [&["container", "create", "--runtime", name, "--rootfs", &rootfs, id], args].concat();
        self.fixture.ctr(line)?.ok()?;
        let client = Client::new(&self.fixture.address(), Some(self.fixture.namespace()))?;
        let request = UpdateContainerRequest {
            container: Some(Container { id: id.to_owned(), image: image.to_owned() }),
            update_mask: Some(FieldMask { paths: vec!["image".to_owned()] }),
        };
        let UpdateContainerResponse { container } = client.call(CONTAINERS, "Update", request)?;
        let now = container.unwrap_or_default().image;
        anyhow::ensure!(now == image, "{id} is of {now:?}, not of {image}");
        Ok(())
    }

    /// The same for an image that the build wrote.
    pub fn create_of_image(&self, image: Image, id: &str, args: &[&str]) -> Result<()> {
        self.create_of(image.name(), id, args)
    }
}
