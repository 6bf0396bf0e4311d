//! Pods and containers that need an installed shim: containerd starts it once more when they end. Called by `install`, for
//! what is not wanted any more, and by `uninstall`.

use std::collections::BTreeSet;

use crate::Error;
use crate::containerd::distribution::Distribution;
use crate::containerd::plan;
use crate::options::{Options, Runtime};
use crate::record::Record;
use crate::root::Root;

/// containerd's plugins that have bundles, below its state directory.
const BUNDLES: [&str; 2] =
    ["io.containerd.runtime.v2.task", "io.containerd.sandbox.controller.v1.shim"];

/// The shims of a record, those of an earlier directory included.
pub(crate) fn shims(record: &Record) -> BTreeSet<String> {
    let now = Runtime::ALL.map(|runtime| format!("{}/{}", record.bin_dir, runtime.shim()));
    let recorded = record.files.keys().filter(|path| is_shim(path)).cloned();
    recorded.chain(now).collect()
}

/// Whether a path is that of a shim.
pub(crate) fn is_shim(path: &str) -> bool {
    Runtime::ALL.iter().any(|runtime| path.ends_with(&format!("/{}", runtime.shim())))
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
                if shims.contains(&shim) {
                    found.push(format!("{namespace}/{id}"));
                }
            }
        }
    }
    Ok(found)
}
