//! From the opened root and volumes of a container to one tree of attached mounts.
//!
//! The root stays writable until all mount points and the working directory exist in it.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::mount::MountAttrFlags;

use super::{
    attributes,
    copy::Copy,
    directory::Directory,
    error::RootfsError,
    masks,
    namespace::{self, Inside, MountNamespace},
    volumes::{self, Attached, Root, Volume},
};
use crate::{
    bundle::{config::Config, mount_options::MountOptions},
    sys::{MountAttributes, MountChange},
};

const READ_ONLY: MountAttributes = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Attaches the root and its volumes in the private namespace, makes a missing working directory,
/// and restricts paths.
pub(super) fn attach(
    path: &Path,
    root: Copy,
    mut volumes: Vec<Volume<'_>>,
    read_only: bool,
    config: &Config,
) -> Result<Attached, RootfsError> {
    let failed = RootfsError::directory("root.path", path);
    let cover = volumes::take_root(&mut volumes);
    let private = MountNamespace::of_process().map_err(|error| failed(namespace::named(&error)))?;
    let inside = private.enter().map_err(|error| failed(namespace::named(&error)))?;
    let mut attached = Attached::default();
    let mut root = Root { copy: root, options: MountOptions::default(), read_only };
    if let Some(cover) = cover {
        root = cover.cover(&inside, root, &mut attached)?;
    }
    let cwd = Some(volumes::clean(&config.process.cwd)).filter(|cwd| cwd != Path::new("/"));
    let cwd_in_root = cwd.as_ref().filter(|cwd| !volumes.iter().any(|volume| volume.contains(cwd)));
    let has_volumes = !volumes.is_empty();
    let is_late = root.read_only && (has_volumes || cwd_in_root.is_some());
    let copy = attach_root(&inside, root, is_late, &mut attached).map_err(&failed)?;
    let Copy { mount: root, has_mounts, following } = copy;
    let is_single = !has_mounts && following.is_none();
    attached.following.extend(following);
    make_places(&root, &mut volumes)?;
    if let Some(cwd) = cwd_in_root {
        volumes::make_directory(&root, cwd)?;
    }
    if is_late && is_single {
        // After the volumes: a link in one may lead to a place that is still to be made.
        attached.late.push(root.try_clone().map_err(&failed)?);
    } else if is_late {
        // With the mounts below it, hence before the volumes, which may be writable.
        let change = MountChange::RESTRICTED.with(READ_ONLY);
        attributes::change(&inside, &root, change).map_err(&failed)?;
    }
    attach_volumes(&inside, &root, volumes, &mut attached)?;
    // Again if it was made before: a link may lead into a volume.
    if let Some(cwd) = cwd.filter(|_| has_volumes) {
        volumes::make_directory(&root, &cwd)?;
    }
    for mount in &attached.late {
        attributes::change(&inside, mount, MountChange::single(READ_ONLY)).map_err(&failed)?;
    }
    // `read_only` is false because the kernel refuses writes. An engine that did so would also
    // refuse writes to writable volumes in the tree.
    attached.directories.insert(0, Directory::new(PathBuf::from("/"), root, false));
    masks::apply(&inside, &attached.directories, config)?;
    Ok(attached)
}

/// Attaches the root with its attributes. `is_late`: it becomes read-only later, if at all.
fn attach_root(
    inside: &Inside,
    root: Root,
    is_late: bool,
    attached: &mut Attached,
) -> io::Result<Copy> {
    let Root { copy, mut options, read_only } = root;
    if read_only && !is_late {
        options.tree = options.tree.then(READ_ONLY);
    }
    attached.trees.push(inside.attach_root(&copy.mount)?);
    // Before the volumes: their mount points must not lie in an interface.
    let found = volumes::settle(inside, &copy, &options, false)?;
    attached.left_out.extend(found.into_iter().map(|one| one.below(Path::new("/"))));
    Ok(copy)
}

/// Makes the mount points of volumes in the root.
fn make_places(root: &OwnedFd, volumes: &mut [Volume<'_>]) -> Result<(), RootfsError> {
    for n in 0..volumes.len() {
        let (before, rest) = volumes.split_at_mut(n);
        // The mount point of a volume inside another is looked up once the other is attached.
        if !before.iter().any(|other| rest[0].is_below(other)) {
            rest[0].make_place(root)?;
        }
    }
    Ok(())
}

/// Attaches the volumes, in their order.
fn attach_volumes(
    inside: &Inside,
    root: &OwnedFd,
    volumes: Vec<Volume<'_>>,
    attached: &mut Attached,
) -> Result<(), RootfsError> {
    let mut rest = VecDeque::from(volumes);
    while let Some(volume) = rest.pop_front() {
        if volume.is_devices_with(&rest) {
            volume.attach_devices(inside, root, &mut rest)?;
        } else {
            volume.attach(inside, root, attached)?;
        }
    }
    Ok(())
}
