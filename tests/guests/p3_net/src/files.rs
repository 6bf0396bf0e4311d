//! Files, by `wasi:filesystem`.

use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

use crate::Outcome;

/// Keeps all of them open until it has tried that often.
pub(crate) async fn open_many(path: &str, count: &str) -> Outcome {
    let count: u32 = count.parse().map_err(|_| format!("{count:?} is no count"))?;
    let root = root()?;
    let (mut opened, mut refused) = (Vec::new(), 0);
    for _ in 0..count {
        let path = path.trim_start_matches('/').to_owned();
        match root
            .open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)
            .await
        {
            Ok(file) => opened.push(file),
            Err(_) => refused += 1,
        }
    }
    Ok(format!("{} opened, {refused} refused\n", opened.len()))
}

pub(crate) async fn rename(from: &str, to: &str) -> Outcome {
    let root = root()?;
    let inside = |path: &str| path.trim_start_matches('/').to_owned();
    root.rename_at(inside(from), &root, inside(to))
        .await
        .map_err(|error| format!("rename: {error:?}"))?;
    Ok("renamed\n".into())
}

fn root() -> Result<Descriptor, String> {
    let directories = get_directories();
    directories
        .into_iter()
        .find(|(_, path)| path == "/")
        .map(|(root, _)| root)
        .ok_or_else(|| "no root".into())
}
