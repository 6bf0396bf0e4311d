//! The configuration file of a private containerd; written by `containerd`, read by the containerd it starts.

use std::path::Path;

/// Plugins no test needs; without them containerd is up in a fraction of a second.
const NEEDLESS: [&str; 10] = [
    // containerd 2 has the CRI in three parts.
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// The version-2 configuration of a containerd that lives in `dir`; `kept` names needless plugins that are kept.
pub fn text(dir: &Path, kept: &[String], extra: &str) -> String {
    let disabled: Vec<_> =
        NEEDLESS.iter().filter(|name| !kept.iter().any(|kept| kept == *name)).collect();
    let dir = dir.display();
    format!(
        "version = 2\n\
         root = \"{dir}/r\"\n\
         state = \"{dir}/s\"\n\
         disabled_plugins = {disabled:?}\n\
         [grpc]\n  address = \"{dir}/c.sock\"\n\
         [ttrpc]\n  address = \"{dir}/c.sock.ttrpc\"\n\
         [debug]\n  level = \"info\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"{dir}/opt\"\n\
         {extra}\n"
    )
}
