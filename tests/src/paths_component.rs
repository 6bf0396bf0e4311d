//! A component that calls the functions of `wasi:filesystem` with a path, and the syncs; run by tests of files.

/// Error codes of p2. p3 has no `would-block`.
const CODES: [&str; 37] = [
    "access",
    "would-block",
    "already",
    "bad-descriptor",
    "busy",
    "deadlock",
    "quota",
    "exist",
    "file-too-large",
    "illegal-byte-sequence",
    "in-progress",
    "interrupted",
    "invalid",
    "io",
    "is-directory",
    "loop",
    "too-many-links",
    "message-size",
    "name-too-long",
    "no-device",
    "no-entry",
    "no-lock",
    "insufficient-memory",
    "insufficient-space",
    "not-directory",
    "not-empty",
    "not-recoverable",
    "unsupported",
    "no-tty",
    "no-such-device",
    "overflow",
    "not-permitted",
    "pipe",
    "read-only",
    "invalid-seek",
    "text-file-busy",
    "cross-device",
];

/// Types of files of both versions. p2 has `unknown` in front.
const KINDS: [&str; 7] = [
    "block-device",
    "character-device",
    "directory",
    "fifo",
    "symbolic-link",
    "regular-file",
    "socket",
];

/// The component for p2 (`0.2.0`), or for p3 (`0.3.0`), in the text format.
pub fn text(version: &str) -> String {
    let p2 = version.starts_with("0.2");
    let codes: Vec<_> = CODES.into_iter().filter(|code| p2 || *code != "would-block").collect();
    let number = |wanted: &str| {
        codes.iter().position(|code| *code == wanted).map_or_else(String::new, |n| n.to_string())
    };
    let plain = |names: &[&str]| {
        format!("(enum {})", names.iter().map(|n| format!("{n:?} ")).collect::<String>())
    };
    let open = |names: &[&str]| {
        let cases: String = names.iter().map(|name| format!("(case {name:?}) ")).collect();
        format!("(variant {cases} (case \"other\" (option string)))")
    };
    let (errors, kind) = if p2 {
        (plain(&codes), plain(&[&["unknown"], &KINDS[..]].concat()))
    } else {
        (open(&codes), open(&KINDS))
    };
    let mut text = include_str!("paths_component.wat").to_owned();
    for (name, value) in [
        ("CLOCK", if p2 { "clocks/wall-clock" } else { "clocks/system-clock" }),
        ("VERSION", version),
        ("TIME", if p2 { "datetime" } else { "instant" }),
        ("SECONDS", if p2 { "u64" } else { "s64" }),
        ("ENUM", &errors),
        ("KIND", &kind),
        ("CODE", if p2 { "257" } else { "260" }),
        // Behind the tag, the kind and the number of links.
        ("SIZE", if p2 { "280" } else { "288" }),
        ("ASYNC", if p2 { "" } else { "async" }),
        ("ROFS", &number("read-only")),
        ("XDEV", &number("cross-device")),
    ] {
        text = text.replace(name, value);
    }
    text
}
