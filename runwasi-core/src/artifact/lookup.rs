//! Resolves the arguments of a process to its artifact: a file of the root file system, else a wasm
//! layer of the container's image.

use std::{path::PathBuf, sync::Arc};

use super::{
    Artifact, ArtifactBytes, ArtifactError, Program, Source,
    bytes::Room,
    file::{Opened, split_function},
    oci::{self, Images, blob::Layer},
    sharing::{self, Origin},
};
use crate::{blocking::blocking, digest::Digest, id::Id, rootfs::Rootfs};

/// The file that [`locate`](file::locate) found, or else a wasm layer of the container's image.
/// `named` is the image's name in the annotation of the CRI.
pub(crate) async fn find(
    located: &Result<Program, ArtifactError>,
    args: &[String],
    container: &Id,
    named: Option<&str>,
    images: &dyn Images,
) -> Result<Program, ArtifactError> {
    let (name, looked_at) = match located {
        Err(ArtifactError::NotFound { name, looked_at, .. }) => (name.clone(), looked_at.clone()),
        // A file that exists decides, also if it cannot be read: a layer must not replace it.
        found_or_failed => return found_or_failed.clone(),
    };
    match oci::named::find_layer(images, container, named, &name).await {
        Ok(layer) => {
            let path = PathBuf::from(layer.name());
            let (_, function) = split_function(args);
            Ok(Program { path, function, source: Source::Layer(layer) })
        }
        Err(error) => {
            Err(ArtifactError::NotFound { name, looked_at, image: Some(Box::new(error)) })
        }
    }
}

/// Reads the bytes of a program.
pub(crate) async fn load(
    program: &Program,
    rootfs: &Arc<Rootfs>,
    images: &dyn Images,
) -> Result<Artifact, ArtifactError> {
    let Program { path, function, source } = program.clone();
    if let Source::Layer(layer) = source {
        // A layer is read without regard to the process, so its artifact has no function yet.
        return Ok(Artifact { function, ..layer_artifact(&layer, images).await? });
    }
    let wanted = program.clone();
    let tree = rootfs.clone();
    // Everything that is known without the content, so that a file that is no wasm is not read.
    let opened = on_pool(path.clone(), move || Opened::open(wanted, &tree)).await?;
    let origin = opened.origin();
    let read = async {
        let room = Room::take(opened.bytes()).await;
        on_pool(path.clone(), move || opened.read(room)).await
    };
    let artifact = match origin {
        Some(origin) => sharing::shared(origin, read).await,
        None => read.await,
    };
    // The read may have been that of another container.
    let artifact = artifact.map_err(|error| error.at(&path))?;
    Ok(Artifact { path, function, ..artifact })
}

/// Reads a layer. The artifact selects no function.
pub async fn layer_artifact(layer: &Layer, images: &dyn Images) -> Result<Artifact, ArtifactError> {
    let path = PathBuf::from(layer.name());
    let failed = |source| ArtifactError::Layer { path: path.clone(), source: Box::new(source) };
    let read = async {
        let room = Room::take(layer.blob.bytes).await;
        let bytes = oci::read(images, layer).await.map_err(failed)?;
        let layer = layer.clone();
        let path = path.clone();
        // The read above does not verify the digest: hashing up to 512 MiB would block the runtime.
        on_pool(path.clone(), move || unpack(path, bytes, room, &layer)).await
    };
    let origin = Origin::Blob { digest: layer.blob.digest, bytes: layer.blob.bytes };
    let artifact = sharing::shared(origin, read).await;
    // The read may have been for another image with this layer.
    let artifact = artifact.map_err(|error| error.at(&path))?;
    Ok(Artifact { path, ..artifact })
}

/// Runs work that computes or blocks on the blocking pool.
async fn on_pool<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    blocking(work, |error| ArtifactError::Read { path, source: Arc::new(error) }).await
}

fn unpack(
    path: PathBuf,
    bytes: Vec<u8>,
    room: Option<Room>,
    layer: &Layer,
) -> Result<Artifact, ArtifactError> {
    // Computed once: for the check and for the artifact.
    let digest = Digest::of(&bytes);
    match layer.blob.check(&digest) {
        Ok(()) => Artifact::hashed(path, ArtifactBytes::within(bytes, room), digest),
        Err(source) => Err(ArtifactError::Layer { path, source: Box::new(source) }),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::{join, sync::Barrier};

    use super::*;
    use crate::artifact::oci::{blob::Blob, error::ImageError};

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    /// One blob, whose reads wait for each other.
    #[derive(Debug)]
    struct Store(Barrier);

    #[async_trait]
    impl Images for Store {
        async fn of_container(&self, _: &Id) -> Result<String, ImageError> {
            unreachable!("the layer is known")
        }

        async fn target(&self, _: &str) -> Result<Blob, ImageError> {
            unreachable!("the layer is known")
        }

        async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
            self.0.wait().await;
            Ok(WASM[..WASM.len().min(usize::try_from(blob.bytes).unwrap())].to_vec())
        }

        async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError> {
            unreachable!("the layer is known")
        }
    }

    fn layer(image: &str, digest: Digest, bytes: u64) -> Layer {
        let blob = Blob { media_type: "application/wasm".into(), digest, bytes };
        Layer { image: image.into(), title: Some("a.wasm".into()), blob }
    }

    #[tokio::test]
    async fn layer_with_a_wrong_length_fails_for_its_image_alone() {
        let digest = Digest::of(WASM);
        // Two reads: shared, the first would wait for ever.
        let store = Store(Barrier::new(2));
        let short = layer("example/short:1", digest, 4);
        let right = layer("example/right:1", digest, WASM.len() as u64);
        let both = join!(layer_artifact(&short, &store), layer_artifact(&right, &store));
        let error = both.0.unwrap_err().to_string();
        assert!(error.contains("example/short:1/a.wasm"), "{error}");
        assert_eq!(&*both.1.unwrap().bytes, WASM);
    }

    #[tokio::test]
    async fn error_of_a_shared_read_names_the_image_of_each() {
        let store = Store(Barrier::new(1));
        let digest = Digest::of(b"other bytes");
        let layers = ["example/one:1", "example/two:1"].map(|image| layer(image, digest, 8));
        let both = join!(layer_artifact(&layers[0], &store), layer_artifact(&layers[1], &store));
        for (result, layer) in [both.0, both.1].into_iter().zip(&layers) {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(&layer.name()), "{error}");
        }
    }
}
