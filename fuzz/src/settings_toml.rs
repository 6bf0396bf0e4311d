//! Settings of the wasmtime engine as TOML.

use runwasi_core::settings::RawSettings;

use crate::settings::Settings;

const SOURCE: &str = "settings.toml";

/// An error names a line of the document. What is accepted is printed and reads back the same.
pub fn check(toml: &[u8]) {
    let raw = match RawSettings::parse(SOURCE, toml, |_| true) {
        Ok(raw) => raw,
        Err(error) => return check_line(&error.to_string(), toml),
    };
    if let Err(error) = check_settings(&raw) {
        check_line(&error, toml);
    }
}

/// Deserializes settings. Checks that they differ in nothing from what was written, and that they
/// read back as printed.
pub fn check_settings(raw: &RawSettings) -> Result<(), String> {
    let settings = raw.read(&Settings::default()).map_err(|error| error.to_string())?;
    let difference = settings.difference(raw).expect("accepted settings are compared");
    assert!(difference.is_none(), "not in force: {difference:?}");
    let printed = settings.to_toml().expect("settings are printed");
    let read = RawSettings::parse("printed", printed.as_bytes(), |_| true);
    let again = read.and_then(|raw| raw.read(&settings));
    assert_eq!(again.as_ref(), Ok(&settings), "{printed}");
    Ok(())
}

fn check_line(error: &str, toml: &[u8]) {
    crate::check_error(&error, &format!("{SOURCE}:"));
    let digits = error[SOURCE.len() + 1..].split(':').next().unwrap_or_default();
    let line: usize = digits.parse().unwrap_or_else(|_| panic!("no line: {error:?}"));
    let lines = 1 + toml.iter().filter(|byte| **byte == b'\n').count();
    assert!((1..=lines).contains(&line), "line {line} of {lines}: {error:?}");
}
