//! `mounts` of `config.json`. Untrusted: every field is checked here, and an error names the field.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{
    error::{Wrong, wrong},
    mount_options::MountOptions,
};

/// A mount of `config.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Path in the guest, absolute.
    pub destination: PathBuf,
    /// Source of the mount.
    pub source: Source,
    /// Its options.
    pub options: MountOptions,
}

/// Source of a mount of `config.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory or a file of the host.
    Bind {
        /// Absolute or relative to the bundle.
        path: PathBuf,
        /// True if the mounts below it are included.
        recursive: bool,
    },
    /// A new file system in memory.
    Tmpfs,
    /// Our own `/dev`.
    Devices,
    /// The `/dev/shm` of a pod without a pause container.
    PodMemory,
}

/// Types of the host's kernel interfaces. A guest never gets these mounts.
// Left out and not refused, since every engine's default config lists them.
const NEVER: [&str; 7] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "devtmpfs"];

/// Checks the mounts. Those of kernel interfaces are left out.
pub(super) fn volumes(mounts: &[Mount]) -> Result<Vec<VolumeConfig>, Wrong> {
    let mut volumes = Vec::new();
    for (n, mount) in mounts.iter().enumerate() {
        volumes.extend(volume(n, mount)?);
    }
    Ok(volumes)
}

fn volume(n: usize, mount: &Mount) -> Result<Option<VolumeConfig>, Wrong> {
    let field = |name: &str| format!("mounts[{n}].{name}");
    let destination = mount.destination().clone();
    if !destination.is_absolute() {
        let reason = format!("{:?} is not absolute", destination.display().to_string());
        return Err(wrong(field("destination"), reason));
    }
    let is_mapped = |mappings: &Option<Vec<_>>| mappings.as_ref().is_some_and(|m| !m.is_empty());
    for (name, mappings) in
        [("uidMappings", mount.uid_mappings()), ("gidMappings", mount.gid_mappings())]
    {
        if is_mapped(mappings) {
            return Err(wrong(field(name), "a guest's ids are the host's"));
        }
    }
    let given = mount.options().as_deref().unwrap_or_default();
    let options = MountOptions::parse(given).map_err(|(option, reason)| {
        wrong(field("options"), format!("{option:?} cannot be honoured: {reason}"))
    })?;
    let Some(source) = source(mount, &options, field)? else { return Ok(None) };
    if matches!(source, Source::Bind { .. }) && !options.rest.is_empty() {
        // As with runc, where the kernel does not look at them. Those of `/dev` belong to the file
        // system that ours stands for, and clients give them to each container.
        let options = options.rest.join(",");
        tracing::warn!(field = field("options"), options, "left out: unknown");
    }
    Ok(Some(VolumeConfig { destination, source, options }))
}

/// The source of a mount, unless a guest never gets it.
fn source(
    mount: &Mount,
    options: &MountOptions,
    field: impl Fn(&str) -> String,
) -> Result<Option<Source>, Wrong> {
    let kind = mount.typ().as_deref().unwrap_or("none");
    if kind == "bind" || options.bind.is_some() {
        let path = mount.source().clone().ok_or_else(|| wrong(field("source"), "is missing"))?;
        return Ok(Some(Source::Bind { path, recursive: options.bind.unwrap_or(false) }));
    }
    if mount.destination() == Path::new("/dev") {
        // Of any other type: a guest gets only our own harmless devices.
        return Ok(Some(Source::Devices));
    }
    let is_of_the_system = ["/proc", "/sys"].iter().any(|top| mount.destination().starts_with(top));
    match kind {
        // A guest does not have `/proc` and `/sys`.
        "tmpfs" if is_of_the_system => Ok(None),
        "tmpfs" => Ok(Some(Source::Tmpfs)),
        never if NEVER.contains(&never) => Ok(None),
        other => {
            let reason = format!("{other:?} is not one of bind, tmpfs, or the system's {NEVER:?}");
            Err(wrong(field("type"), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::mount_options::Propagation;

    fn with(mounts: &str) -> Result<Vec<VolumeConfig>, String> {
        let mounts: Vec<Mount> = serde_json::from_str(&format!("[{mounts}]")).unwrap();
        volumes(&mounts).map_err(|(field, reason)| format!("{field}: {reason}"))
    }

    #[test]
    fn mounts_are_kept_replaced_left_out_or_refused() {
        let mounts = r#"{"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid"]},
            {"destination":"/dev/shm","type":"tmpfs","source":"shm"},
            {"destination":"/sys/fs/x","type":"tmpfs","source":"tmpfs"},
            {"destination":"/run","type":"tmpfs","source":"tmpfs","options":["size=1m"]},
            {"destination":"/data","type":"bind","source":"/srv","options":["rbind","ro"]}"#;
        let found = with(mounts).unwrap();
        let places: Vec<_> = found.iter().map(|one| one.destination.to_str().unwrap()).collect();
        assert_eq!(places, ["/dev", "/dev/shm", "/run", "/data"]);
        let bind = Source::Bind { path: "/srv".into(), recursive: true };
        let wanted = [Source::Devices, Source::Tmpfs, Source::Tmpfs, bind];
        assert!(found.iter().zip(wanted).all(|(one, wanted)| one.source == wanted));
        assert_eq!(found[2].options.rest, ["size=1m"]);
        assert!(found[3].options.top.is_read_only());
        assert_eq!(found[3].options.propagation, Propagation::Private);
    }

    #[test]
    fn wrong_mounts_are_named() {
        for (mount, wanted) in [
            (
                r#"{"destination":"/x","type":"ext4","source":"/dev/vda"}"#,
                "mounts[0].type: \"ext4\" is not one of bind",
            ),
            (
                r#"{"destination":"x","type":"tmpfs"}"#,
                "mounts[0].destination: \"x\" is not absolute",
            ),
            (r#"{"destination":"/x","type":"bind"}"#, "mounts[0].source: is missing"),
            (
                r#"{"destination":"/x","type":"bind","source":"/s","options":["ridmap"]}"#,
                "mounts[0].options: \"ridmap\" cannot be honoured",
            ),
            (
                r#"{"destination":"/x","type":"bind","source":"/s",
                    "uidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#,
                "mounts[0].uidMappings: a guest's ids",
            ),
        ] {
            let error = with(mount).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
