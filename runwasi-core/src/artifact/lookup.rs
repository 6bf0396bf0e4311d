//! From the arguments of a process to its artifact: the file that was located, else a wasm layer of
//! the container's image.

use std::{io, path::PathBuf, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    Artifact, ArtifactError, Program, Source,
    file::{self, named},
    oci::{self, Images, blob::Layer},
};
use crate::{digest::Digest, id::Id, rootfs::Rootfs};

/// What [`locate`](file::locate) has found, or a wasm layer of the container's image.
pub(crate) async fn find(
    located: &Result<Program, ArtifactError>,
    args: &[String],
    container: &Id,
    images: &dyn Images,
) -> Result<Program, ArtifactError> {
    let (name, looked_at) = match located {
        Err(ArtifactError::NotFound { name, looked_at, .. }) => (name.clone(), looked_at.clone()),
        found_or_failed => return found_or_failed.clone(),
    };
    match oci::find(images, container, &name).await {
        Ok(layer) => {
            let (path, (_, function)) = (PathBuf::from(layer.name()), named(args));
            Ok(Program { path, function, source: Source::Layer(layer) })
        }
        Err(error) => {
            Err(ArtifactError::NotFound { name, looked_at, image: Some(Box::new(error)) })
        }
    }
}

/// Reads a program.
pub(crate) async fn load(
    program: &Program,
    rootfs: &Arc<Rootfs>,
    images: &dyn Images,
) -> Result<Artifact, ArtifactError> {
    let Program { path, function, source } = program.clone();
    if let Source::Layer(layer) = source {
        return Ok(Artifact { function, ..layer_artifact(&layer, images).await? });
    }
    let (program, rootfs) = (program.clone(), rootfs.clone());
    on_pool(path, move || file::read(program, &rootfs)).await
}

/// Reads a layer, whoever it is for.
pub async fn layer_artifact(layer: &Layer, images: &dyn Images) -> Result<Artifact, ArtifactError> {
    let path = PathBuf::from(layer.name());
    let failed = |source| ArtifactError::Layer { path: path.clone(), source: Box::new(source) };
    let (bytes, layer) = (oci::read(images, layer).await.map_err(failed)?, layer.clone());
    on_pool(path.clone(), move || unpack(path, bytes, &layer)).await
}

/// What computes or blocks does so on the blocking pool.
async fn on_pool<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    let lost = |error| ArtifactError::Read { path, source: Arc::new(io::Error::other(error)) };
    spawn_blocking(work).await.map_err(lost)?
}

fn unpack(path: PathBuf, bytes: Vec<u8>, layer: &Layer) -> Result<Artifact, ArtifactError> {
    let digest = Digest::of(&bytes);
    match layer.blob.check(&digest) {
        Ok(()) => Artifact::hashed(path, bytes, digest),
        Err(source) => Err(ArtifactError::Layer { path, source: Box::new(source) }),
    }
}
