//! Pods and containers that need an installed shim: containerd starts it once more when they end.
//! Called by `install`, for runtimes and files that are not wanted any more, and by `uninstall`.

use std::collections::BTreeSet;

use crate::Error;
use crate::containerd::distribution::Distribution;
use crate::containerd::plan;
use crate::options::{Options, Runtime};
use crate::record::{Record, Shelf};
use crate::root::Root;

/// containerd's plugins that have bundles, below its state directory.
const BUNDLES: [&str; 2] =
    ["io.containerd.runtime.v2.task", "io.containerd.sandbox.controller.v1.shim"];

/// The shims of runtimes in a record, those of an earlier directory included.
pub(crate) fn shims(record: &Record, runtimes: &[Runtime]) -> BTreeSet<String> {
    let now = runtimes.iter().map(|runtime| format!("{}/{}", record.bin_dir, runtime.shim()));
    let recorded = record.files.keys().filter(|path| is_shim(path, runtimes)).cloned();
    recorded.chain(now).collect()
}

/// Whether a path is that of a shim of these runtimes.
pub(crate) fn is_shim(path: &str, runtimes: &[Runtime]) -> bool {
    runtimes.iter().any(|runtime| path.ends_with(&format!("/{}", runtime.shim())))
}

/// Runtimes that containerd knows from this program, and that are not wanted any more.
pub(crate) fn dropped(
    root: &Root,
    options: &Options,
    shelf: &Shelf<'_>,
    record: &Record,
) -> Result<Vec<Runtime>, Error> {
    let mut texts = Vec::new();
    for file in &record.configurations {
        texts.extend(root.read_text(file)?.map(|text| (file.clone(), text)));
    }
    // Without a restart since then containerd still runs with this one.
    if let Some(previous) = &record.due.previous {
        let kept = String::from_utf8_lossy(&shelf.kept()?).into_owned();
        texts.push((previous.file.clone(), kept));
    }
    let mut dropped = Vec::new();
    for runtime in Runtime::ALL.into_iter().filter(|one| !options.runtimes.contains(one)) {
        let has = |(file, text): &(String, String)| plan::has_runtime(file, text, runtime);
        if texts.iter().map(has).collect::<Result<Vec<_>, _>>()?.contains(&true) {
            dropped.push(runtime);
        }
    }
    Ok(dropped)
}

/// Refuses to take runtimes away as long as something runs by these shims of theirs, unless the
/// options force it.
pub(crate) fn refuse_in_use(
    root: &Root,
    options: &Options,
    distribution: Distribution,
    shims: &BTreeSet<String>,
) -> Result<(), Error> {
    let pods = in_use(root, options, distribution, shims)?;
    match pods.first() {
        Some(first) if !options.force => {
            Err(Error::InUse { count: pods.len(), first: first.clone() })
        }
        _ => Ok(()),
    }
}

/// Namespaces and ids of what runs by these shims: containerd notes the shim in each bundle.
pub(crate) fn in_use(
    root: &Root,
    options: &Options,
    distribution: Distribution,
    shims: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let state = plan::state(root, options, distribution)?;
    let mut found = Vec::new();
    for plugin in BUNDLES {
        let plugin = format!("{state}/{plugin}");
        for namespace in root.list(&plugin)? {
            for id in root.list(&format!("{plugin}/{namespace}"))? {
                let shim = root.read(&format!("{plugin}/{namespace}/{id}/shim-binary-path"))?;
                let shim = String::from_utf8(shim.unwrap_or_default()).unwrap_or_default();
                // containerd may have found it by another name of its directory.
                let ours = is_shim(&shim, &Runtime::ALL)
                    && shims.iter().any(|one| *one == shim || root.is_same(one, &shim));
                if ours {
                    found.push(format!("{namespace}/{id}"));
                }
            }
        }
    }
    Ok(found)
}
