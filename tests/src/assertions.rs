//! What an error message must say; called by tests.

use anyhow::{Result, ensure};

/// Demands that `said` names all of `names` and gives one of `reasons`, upper and lower case alike.
pub fn says(said: &str, names: &[&str], reasons: &[&str]) -> Result<()> {
    let lower = said.to_lowercase();
    for name in names {
        ensure!(said.contains(name), "{name} is not named in: {said}");
    }
    let reason = reasons.is_empty() || reasons.iter().any(|reason| lower.contains(reason));
    ensure!(reason, "none of the reasons {reasons:?} in: {said}");
    Ok(())
}
