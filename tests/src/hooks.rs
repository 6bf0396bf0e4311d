//! Containers with hooks that are shell scripts of the host.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::shim_driver::ShimDriver;

/// A bundle whose guest sleeps, with these hooks; what else is unusual about it is set by `change`.
pub fn bundle(
    p: &ShimDriver,
    id: &str,
    hooks: Value,
    change: impl FnOnce(&mut Value),
) -> Result<Bundle> {
    let mut bundle = p.bundle(id, &[p.runtime().guest(), "sleep", "1000"])?;
    bundle.add_guests()?;
    bundle.config["hooks"] = hooks;
    change(&mut bundle.config);
    bundle.write()?;
    Ok(bundle)
}

/// A hook that is this shell script; `$LOG` is a file outside of the bundle, which is removed in the end.
pub fn script(p: &ShimDriver, script: &str) -> Value {
    let log = format!("LOG={}", p.dir().join("log").display());
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": [log, "PATH=/usr/bin:/bin"] })
}

/// The content of `$LOG`.
pub fn log(p: &ShimDriver) -> String {
    fs::read_to_string(p.dir().join("log")).unwrap_or_default()
}
