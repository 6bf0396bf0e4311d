//! Where the daemon takes bundles from: below the directories that its settings name. A containerd
//! with its state elsewhere (MicroK8s) gets a refusal for each pod of the daemon's runtime.

use toml::de::{DeTable, DeValue};

use crate::Error;
use crate::root::{Root, parent};

/// The daemon's settings.
const SETTINGS: &str = "/etc/containerd-wasmtimed.toml";
/// The key of the directories.
const KEY: &str = "bundle-roots";
/// Its default.
const USUAL: &str = "/run";

/// A line about containerd's state directory if it is below none of the daemon's directories.
pub(crate) fn complaint(root: &Root, state: &str) -> Result<Option<String>, Error> {
    let roots = roots(root)?;
    if roots.iter().any(|one| is_below(root, state, one)) {
        return Ok(None);
    }
    let roots = roots.join(", ");
    Ok(Some(format!(
        "{SETTINGS}: {KEY} ({roots}) must name {state}, where containerd has its bundles, or the \
         daemon refuses them; then systemctl reload containerd-wasmtimed"
    )))
}

/// The directories of the settings, or of none the usual one. The daemon itself tells what is wrong
/// in them.
fn roots(root: &Root) -> Result<Vec<String>, Error> {
    let text = root.read_text(SETTINGS)?.unwrap_or_default();
    Ok(named(&text).unwrap_or_else(|| vec![USUAL.to_owned()]))
}

fn named(text: &str) -> Option<Vec<String>> {
    let document = DeTable::parse(text).ok()?;
    let entry = document.get_ref().iter().find(|(key, _)| key.get_ref().as_ref() == KEY);
    let DeValue::Array(entries) = entry?.1.get_ref() else { return None };
    let string = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    };
    Some(entries.iter().filter_map(|entry| string(entry.get_ref())).collect())
}

/// True if a directory that leads to `path` is `above`, perhaps by another name.
fn is_below(root: &Root, path: &str, above: &str) -> bool {
    if above == "/" {
        return true;
    }
    let mut place = path;
    while place != "/" {
        if place == above || root.is_same(place, above) {
            return true;
        }
        place = parent(place);
    }
    false
}
