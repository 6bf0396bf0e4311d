//! `cache ls`, `cache prune` and `cache verify`: the compiled code of the settings.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use runwasi_core::code_cache::inventory::{CachedCode, Inventory};
use serde_json::{Value, json};

use super::{
    error::CommandError,
    output::{note, print},
    text,
};
use crate::{
    command_line::subcommands::{CacheCommand, Prune},
    config::Settings,
    journal::{millis, now},
};

/// Runs the command.
pub(super) fn run(settings: &Settings, command: &CacheCommand) -> Result<ExitCode, CommandError> {
    let directory =
        settings.cache().ok_or_else(|| CommandError::Other("the cache is off".into()))?;
    let failed = |source| CommandError::Io { path: directory.to_owned(), source };
    let inventory = Inventory::of(directory).map_err(failed)?;
    match command {
        CacheCommand::Ls { json: true } => {
            print(&text::json(&json(directory, &inventory)))?;
        }
        CacheCommand::Ls { json: false } => {
            print(&table(&inventory))?;
        }
        CacheCommand::Prune(prune) => {
            let bytes = u64::from(prune.size.unwrap_or(settings.cache_size)) << 20;
            let (removed, faults) = remove(&inventory, prune, bytes);
            print(&removed)?;
            return Ok(code(&faults));
        }
        CacheCommand::Verify { remove } => {
            // In a directory that is not trusted no file is used, whatever is in it.
            inventory.check_directory().map_err(|error| CommandError::Other(error.to_string()))?;
            let (good, faults) = verify(&inventory, *remove);
            print(&format!("{good} files are usable, {} are not\n", faults.len()))?;
            return Ok(code(&faults));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn code(faults: &[String]) -> ExitCode {
    for fault in faults {
        note(fault);
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(inventory: &Inventory) -> String {
    let now = now();
    let row = |code: &CachedCode| {
        let size = text::bytes(code.bytes).replace(' ', "");
        // Of a file from before the clock was set back nothing is known.
        let used = Some(millis(code.used)).filter(|used| *used <= now).unwrap_or_default();
        let used = text::age(used, now);
        let digest = format!("sha256:{}", code.digest);
        [text::cell(&code.engine_key), size, used, text::cell(&digest)]
    };
    let rows: Vec<_> = inventory.code.iter().map(row).collect();
    let total = text::bytes(inventory.bytes());
    let table = text::table(["ENGINE", "SIZE", "UNUSED", "ARTIFACT"], &rows);
    format!("{table}{} files, {total}\n", inventory.code.len())
}

fn json(directory: &Path, inventory: &Inventory) -> Value {
    let one = |code: &CachedCode| {
        json!({
            "engine": code.engine_key,
            "digest": format!("sha256:{}", code.digest),
            "bytes": code.bytes,
            "used": text::time(millis(code.used)),
            "file": code.path.display().to_string(),
        })
    };
    let code: Vec<Value> = inventory.code.iter().map(one).collect();
    json!({
        "directory": directory.display().to_string(),
        "bytes": inventory.bytes(),
        "temporary": inventory.temporary.len(),
        "code": code,
    })
}

/// The files to remove, of a list that begins with the most recently used.
fn superfluous<'a>(
    code: &'a [CachedCode],
    prune: &Prune,
    most: u64,
    now: SystemTime,
) -> Vec<&'a CachedCode> {
    let days = prune.unused_days.map(|days| Duration::from_secs(u64::from(days) * 86400));
    let mut kept = 0;
    let mut full = false;
    let mut remove = Vec::new();
    for one in code {
        // Once a file does not fit, none of the longer unused ones stays.
        full |= kept + one.bytes > most;
        if prune.all || full || days.is_some_and(|days| one.unused(now) >= days) {
            remove.push(one);
        } else {
            kept += one.bytes;
        }
    }
    remove
}

fn remove(inventory: &Inventory, prune: &Prune, most: u64) -> (String, Vec<String>) {
    let chosen = superfluous(&inventory.code, prune, most, SystemTime::now());
    if prune.dry_run {
        return (format!("would remove {}\n", sum(&chosen)), Vec::new());
    }
    let mut removed = Vec::new();
    let mut faults = Vec::new();
    for code in chosen {
        match code.remove() {
            Ok(true) => removed.push(code),
            // A container has used it meanwhile, or another process has removed it.
            Ok(false) => {}
            Err(error) => faults.push(format!("{}: {error}", code.path.display())),
        }
    }
    inventory.remove_abandoned();
    (format!("removed {}\n", sum(&removed)), faults)
}

/// Number and size of files.
fn sum(files: &[&CachedCode]) -> String {
    let bytes: u64 = files.iter().map(|code| code.bytes).sum();
    format!("{} files with {}", files.len(), text::bytes(bytes))
}

/// Number of usable files, and reasons why others are not. Those are compiled again when they are
/// needed.
fn verify(inventory: &Inventory, remove: bool) -> (usize, Vec<String>) {
    let mut good = 0;
    let mut faults = Vec::new();
    for code in &inventory.code {
        let error = match code.verify() {
            Ok(there) => {
                good += usize::from(there);
                continue;
            }
            Err(error) => error,
        };
        let removed = match code.remove_if(remove) {
            Ok(true) => ", removed",
            Ok(false) => "",
            Err(_) => ", not removed",
        };
        faults.push(format!("{}: {error}{removed}", code.path.display()));
    }
    (good, faults)
}

/// Removal on request.
trait RemoveIf {
    fn remove_if(&self, wanted: bool) -> std::io::Result<bool>;
}

impl RemoveIf for CachedCode {
    fn remove_if(&self, wanted: bool) -> std::io::Result<bool> {
        if wanted { self.remove() } else { Ok(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str, bytes: u64, days: u64) -> CachedCode {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs((1000 - days) * 86400);
        CachedCode { path: name.into(), engine_key: "key".into(), digest: name.into(), bytes, used }
    }

    fn chosen(prune: &Prune, most: u64) -> Vec<String> {
        let all = [code("a", 10, 0), code("b", 50, 5), code("c", 10, 30)];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * 86400);
        let chosen = superfluous(&all, prune, most, now);
        chosen.iter().map(|code| code.digest.clone()).collect()
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let none = Prune { size: None, unused_days: None, all: false, dry_run: false };
        assert!(chosen(&none, 70).is_empty());
        assert_eq!(chosen(&none, 69), ["c"]);
        // The smaller one behind it would fit, but has been unused for longer.
        assert_eq!(chosen(&none, 20), ["b", "c"]);
        assert_eq!(chosen(&Prune { unused_days: Some(30), ..none.clone() }, 70), ["c"]);
        assert_eq!(chosen(&Prune { unused_days: Some(0), ..none.clone() }, 70).len(), 3);
        assert_eq!(chosen(&Prune { all: true, ..none }, 70).len(), 3);
    }

    #[test]
    fn list_shows_key_size_and_digest() {
        let inventory = Inventory { code: vec![code("a", 2048, 1)], ..Inventory::default() };
        let table = table(&inventory);
        assert!(table.starts_with("ENGINE  SIZE"), "{table}");
        assert!(table.contains("sha256:a") && table.ends_with("1 files, 2.0 KiB\n"), "{table}");
        let used = SystemTime::now() + Duration::from_secs(3600);
        let later = Inventory {
            code: vec![CachedCode { used, ..code("a", 2048, 1) }],
            ..Inventory::default()
        };
        let table = super::table(&later);
        assert!(table.contains(" -  "), "the time of its use is to come: {table}");
        let value = json(Path::new("/cache"), &inventory);
        assert_eq!(value["code"][0]["digest"], "sha256:a");
    }
}
