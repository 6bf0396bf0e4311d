//! Texts of the commands: tables, sizes, times, and JSON; all of it pure.
//!
//! Ids, paths and texts come from guests and images. They reach a terminal without control and
//! invisible characters.

use std::{fmt::Write, time::Duration};

use runwasi_core::sanitize;
use serde_json::Value;

/// Text of a cell without a value.
pub(super) const NONE: &str = "-";

/// An untrusted text on one line.
pub(super) fn line(text: &str) -> String {
    sanitize::line(text)
}

/// An untrusted text as a cell, which is never empty and has no space.
pub(super) fn cell(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { line(text).replace(' ', "\\u{20}") }
}

/// Aligned columns, with a header. Lines have no space at their ends.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header = header.map(str::to_owned);
    for row in [&header].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values below each other.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in fields {
        let _ = writeln!(text, "{name:width$}  {value}");
    }
    text
}

/// A size with its unit.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = "";
    for name in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = name;
    }
    format!("{size:.1} {unit}")
}

/// A duration with its two largest units.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = seconds / 86400;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// CPU time.
pub(super) fn cpu(time: Duration) -> String {
    if time < Duration::from_mins(1) {
        return format!("{:.2}s", time.as_secs_f64());
    }
    duration(time)
}

/// The time since `since`, both in milliseconds.
pub(super) fn age(since: u64, now: u64) -> String {
    if since == 0 { NONE.to_owned() } else { duration(elapsed(since, now)) }
}

/// The time from `since` to `now`, both in milliseconds.
pub(super) fn elapsed(since: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(since))
}

/// A time in milliseconds since 1970 as RFC 3339 has it, in UTC.
pub(super) fn time(millis: u64) -> String {
    let seconds = millis / 1000;
    let rest = millis % 1000;
    let (year, month, day) = date(seconds / 86400);
    let hour = seconds / 3600 % 24;
    let minute = seconds / 60 % 60;
    let second = seconds % 60;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z")
}

/// The same without a time for 0.
pub(super) fn time_or_none(millis: u64) -> Option<String> {
    (millis > 0).then(|| time(millis))
}

/// The date of a day since 1970.
// Years of 400 have the same number of days. Counted from March, the leap day is the last.
fn date(day: u64) -> (u64, u64, u64) {
    let from_march = day + 719_468;
    let era = from_march / 146_097;
    let in_era = from_march % 146_097;
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// Indented JSON, without a control or invisible character.
pub(super) fn json(value: &Value) -> String {
    // Alternate form: indented.
    escape(&format!("{value:#}\n"))
}

/// JSON on one line, without a control or invisible character.
pub(super) fn json_line(value: &Value) -> String {
    escape(&format!("{value}\n"))
}

/// Escapes the control and invisible characters that JSON allows in its strings. All of them have
/// four digits at most.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, '\u{7f}'..='\u{9f}') || sanitize::is_invisible(character) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["wider".to_owned(), "é".to_owned()]];
        assert_eq!(table(["X", "NAME"], &rows), "X      NAME\na      long cell\nwider  é\n");
        assert_eq!(table(["X", "NAME"], &[]), "X  NAME\n");
        assert_eq!(fields(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
    }

    #[test]
    fn sizes_have_a_unit() {
        let shown = [0, 1023, 1024, 1536, 1 << 20, 3 << 30, 1 << 50].map(bytes);
        let wanted = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 GiB", "1024.0 TiB"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn durations_have_two_units() {
        let shown = [0, 59, 60, 3599, 3600, 86399, 86400, 10 * 86400 + 7200];
        let shown = shown.map(|seconds| duration(Duration::from_secs(seconds)));
        let wanted = ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "10d02h"];
        assert_eq!(shown, wanted);
        assert_eq!(cpu(Duration::from_millis(1234)), "1.23s");
        assert_eq!(
            (age(0, 5), age(1000, 6000), age(6000, 1000)),
            ("-".into(), "5s".into(), "0s".into())
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(1_764_374_400_000), "2025-11-29T00:00:00.000Z");
        assert_eq!(time(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(time_or_none(0), None);
    }

    #[test]
    fn no_control_or_invisible_character_reaches_a_terminal() {
        let bad = "a\u{1b}[2J\nb\tc\u{9b}31m d\u{202e}e\u{2028}";
        let is_bad = |c: char| c.is_control() || sanitize::is_invisible(c);
        for shown in [line(bad), cell(bad), json_line(&json!({ bad: bad }))] {
            let shown = shown.trim_end();
            assert!(!shown.chars().any(is_bad), "{shown:?}");
        }
        assert_eq!((cell(""), cell("a b")), ("-".to_owned(), "a\\u{20}b".to_owned()));
        let read: Value = serde_json::from_str(&json(&json!([bad]))).unwrap();
        assert_eq!(read, json!([bad]));
    }
}
