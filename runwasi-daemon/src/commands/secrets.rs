//! Removal of secrets from texts for a report of a fault.
//!
//! Everything that looks like a secret is replaced. A report is read by strangers, and loses little
//! by a word too many.

/// Replacement of a secret.
pub(super) const HIDDEN: &str = "<hidden>";

/// Parts of names whose values are secrets.
const NAMES: [&str; 17] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "api-key",
    "api_key",
    "accesskey",
    "access-key",
    "access_key",
    "private",
    "auth",
    "cookie",
    "signature",
];

/// Ends of names whose values are secrets.
const ENDS: [&str; 4] = ["-key", "_key", "pass", "sig"];

/// Beginnings of well-known tokens.
const PREFIXES: [&str; 12] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "eyJ",
    "sk-",
    "-----BEGIN",
];

/// The first and the last line of a key in PEM begin so, and end with dashes.
const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_END: &str = "-----END ";
const DASHES: &str = "-----";

/// Most bytes of a key, or of a chain of certificates.
const LONGEST_KEY: usize = 64 << 10;

/// Ends of a word.
const SPACES: [char; 10] = [' ', '\t', '\n', '"', '\'', ',', ';', '&', '{', '}'];

/// Shortest word that is taken for a random one.
const LONG: usize = 20;

/// Most parts within each other of a word, such as `a=b=c`. Words are untrusted: each part is a
/// call within a call, and a look at the rest of the word.
const MOST_PARTS: u32 = 8;

/// True if a variable, flag or annotation of this name has a secret as its value.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
        || ENDS.iter().any(|end| name.ends_with(end))
        || name == "key"
}

/// True if a word looks like a secret by itself.
fn is_secret_word(word: &str) -> bool {
    PREFIXES.iter().any(|prefix| word.starts_with(prefix)) || is_random(word)
}

/// True for a long word of mixed letters and digits, as tokens are. Digests and ids of containers
/// are hexadecimal in lower case, and stay.
fn is_random(word: &str) -> bool {
    let word = word.trim_end_matches('=');
    // A path begins with a slash, or has other characters.
    let of_token =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'-' | b'/');
    let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
    word.len() >= LONG
        && !word.starts_with('/')
        && word.bytes().all(of_token)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
}

/// True for `--password`, whose value comes next, but not for `--password=VALUE`.
fn is_secret_flag(word: &str) -> bool {
    let flag = word.strip_prefix('-').filter(|flag| !flag.contains('='));
    flag.is_some_and(|flag| is_secret_name(flag.trim_start_matches('-')))
}

/// Arguments of a program without secrets.
pub(super) fn arguments(arguments: &[String]) -> Vec<String> {
    let mut next_is_secret = false;
    let mut shown = Vec::new();
    for argument in arguments {
        let hidden = next_is_secret && !argument.starts_with('-');
        shown.push(if hidden { HIDDEN.to_owned() } else { text(argument) });
        next_is_secret = is_secret_flag(argument);
    }
    shown
}

/// A text, of any number of lines, without secrets.
pub(super) fn text(text: &str) -> String {
    let text = without_keys(text);
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        shown.push_str(&self::line(line));
    }
    shown
}

/// A text without keys and certificates in PEM, of several lines or of one with escaped ends.
fn without_keys(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(KEY_BEGIN) {
        shown.push_str(before);
        shown.push_str(HIDDEN);
        rest = after_key(behind);
    }
    shown.push_str(rest);
    shown
}

/// The rest behind a key. One that is cut ends with its first line.
fn after_key(text: &str) -> &str {
    let most = text.floor_char_boundary(LONGEST_KEY.min(text.len()));
    let of_line = |text: &str| text.find('\n').unwrap_or(text.len());
    let Some(end) = text[..most].find(KEY_END) else { return &text[of_line(text)..] };
    let last = &text[end + KEY_END.len()..];
    let line = of_line(last);
    last[..line].find(DASHES).map_or(&last[line..], |at| &last[at + DASHES.len()..])
}

fn line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut before = Before::default();
    // With the space that follows each word.
    for piece in line.split_inclusive(SPACES) {
        let mut word = piece.trim_end_matches(SPACES);
        // Within a quoted value quotes have a backslash.
        if piece.ends_with('"') {
            word = word.trim_end_matches('\\');
        }
        let space = &piece[word.len()..];
        if word.is_empty() {
            before.take_space(space);
        } else if before.hides(word) {
            shown.push_str(HIDDEN);
            before.take_secret(space);
        } else {
            shown.push_str(&hide(word));
            before.take_word(word, space);
        }
        shown.push_str(space);
    }
    shown
}

/// Knowledge about a word by the words before it.
#[derive(Default)]
struct Before<'a> {
    /// True if it is a secret, or a further part of one in quotes.
    is_secret: bool,
    /// True behind the name of a secret, which `:` or `=` may follow.
    is_named: bool,
    /// True behind a flag whose value is a secret.
    is_behind_flag: bool,
    /// The quote before it, or the one around the secret that it is a part of, with its
    /// backslashes: one with more of them is within the secret.
    quote: Option<&'a str>,
}

impl<'a> Before<'a> {
    /// True for a secret.
    fn hides(&self, word: &str) -> bool {
        // `--password VALUE`, but not `--password --next`.
        let is_value = self.is_behind_flag && !word.starts_with('-');
        let is_before_value = is_scheme(word) || matches!(word, ":" | "=");
        (self.is_secret || is_value) && !is_before_value
    }

    /// Goes on behind a word that is shown.
    fn take_word(&mut self, word: &str, space: &'a str) {
        let lower = word.to_ascii_lowercase();
        // `name: VALUE`, `name = VALUE` and `"name": "VALUE"`.
        let names = lower.strip_suffix([':', '=']).is_some_and(is_secret_name);
        let separates = self.is_named && matches!(word, ":" | "=");
        self.is_secret |= names || separates || is_scheme(word);
        self.is_named = is_secret_name(&lower);
        self.is_behind_flag = is_secret_flag(word);
        self.quote = quote(space);
    }

    /// Goes on behind a secret, which has further words if it is in quotes.
    fn take_secret(&mut self, space: &'a str) {
        self.is_secret = self.quote.is_some_and(|quote| quote != space);
        self.is_named = false;
        self.is_behind_flag = false;
        if !self.is_secret {
            self.quote = quote(space);
        }
    }

    /// Goes on behind a space that follows another one.
    fn take_space(&mut self, space: &'a str) {
        let quote = quote(space);
        if self.is_secret && self.quote.is_some() && self.quote == quote {
            // The end of the secret, or an empty one.
            self.is_secret = false;
            self.quote = None;
        } else if quote.is_some() || !self.is_secret {
            self.quote = quote;
        }
    }
}

/// True for the first word of `Bearer VALUE`.
fn is_scheme(word: &str) -> bool {
    ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// A space that is a quote.
fn quote(space: &str) -> Option<&str> {
    Some(space).filter(|space| space.ends_with(['"', '\'']))
}

/// A word without the secret in it.
fn hide(word: &str) -> String {
    hide_parts(word, MOST_PARTS)
}

/// The same for a word, and for the parts of it within each other. What has more of them is hidden.
fn hide_parts(word: &str, parts: u32) -> String {
    // First: what looks like `name=value` may be base64 with its padding.
    let Some(parts) = parts.checked_sub(1).filter(|_| !is_secret_word(word)) else {
        return HIDDEN.to_owned();
    };
    // Before `=`, which the query of a URL has, and its password may have.
    if let Some((scheme, rest)) = word.split_once("://")
        && !scheme.contains('=')
    {
        return match rest.rsplit_once('@') {
            Some((_, place)) => format!("{scheme}://{HIDDEN}@{}", hide_parts(place, parts)),
            None => format!("{scheme}://{}", hide_parts(rest, parts)),
        };
    }
    // `user:password@place`, as data bases are named. Before `=`, too, but not for `name=user:…`.
    // `registry:5000/image@sha256:…` is no secret.
    if let Some((user, rest)) = word.split_once(':')
        && !user.contains('=')
        && let Some((_, place)) = rest.rsplit_once('@')
        && !place.starts_with("sha256:")
    {
        return format!("{HIDDEN}@{}", hide_parts(place, parts));
    }
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
    {
        let is_secret = is_secret_name(name);
        let value = if is_secret { HIDDEN.to_owned() } else { hide_parts(value, parts) };
        return format!("{name}={value}");
    }
    if let Some((name, value)) = word.split_once(':')
        && !value.is_empty()
        && !value.starts_with('/')
        && is_secret_name(name)
    {
        return format!("{name}:{HIDDEN}");
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_every_form() {
        for (shown, hidden) in [
            ("--token=abc serve", "--token=<hidden> serve"),
            ("DB_PASSWORD=x y", "DB_PASSWORD=<hidden> y"),
            ("password: hunter2 next", "password: <hidden> next"),
            ("{\"secret\": \"hunter2\"}", "{\"secret\": \"<hidden>\"}"),
            (r#"{\"secret\": \"hunter2\"}"#, r#"{\"secret\": \"<hidden>\"}"#),
            (r#"password: "a b c" d"#, r#"password: "<hidden> <hidden> <hidden>" d"#),
            ("{'token': 'a b'} c", "{'token': '<hidden> <hidden>'} c"),
            (r#"why="DB_SECRET=\"hunter2\" x""#, r#"why="DB_SECRET=\"<hidden>\" x""#),
            ("Authorization: Bearer abc.def", "Authorization: Bearer <hidden>"),
            ("https://user:pass@host/path", "https://<hidden>@host/path"),
            ("url=https://user:pass@host/", "url=https://<hidden>@host/"),
            ("key AKIAIOSFODNN7EXAMPLE", "key <hidden>"),
            ("x Zm9vYmFyMTIzNDU2Nzg5MA== y", "x <hidden> y"),
            ("a=b&api_key=c", "a=b&api_key=<hidden>"),
            ("id wJalrXUtnFEMI/K7MDENG/bPxRfiCY0 x", "id <hidden> x"),
            ("DB_PASS=x MYSQL_PWD=y z", "DB_PASS=<hidden> MYSQL_PWD=<hidden> z"),
            ("run --pwd x --db-pass y z", "run --pwd <hidden> --db-pass <hidden> z"),
            ("--token --next x", "--token --next x"),
            ("pg://u:p@host/db?ssl=on&x=1", "pg://<hidden>@host/db?ssl=on&x=1"),
            ("url=pg://u:p=w@host/?token=t", "url=pg://<hidden>@host/?token=<hidden>"),
            ("https://host/b?sig=x&a=1", "https://host/b?sig=<hidden>&a=1"),
            ("amqp://user:p@ss@host/path", "amqp://<hidden>@host/path"),
            ("--dsn=root:pass@tcp(db:3306)/x", "--dsn=<hidden>@tcp(db:3306)/x"),
            ("root:p=w@tcp(db:3306)/x?parseTime=true", "<hidden>@tcp(db:3306)/x?parseTime=true"),
            ("--dsn=root:p@tcp(db)/x?a=b", "--dsn=<hidden>@tcp(db)/x?a=b"),
            (
                r#"{"secret": "a\"b c", "d": "e"}"#,
                r#"{"secret": "<hidden>\"<hidden> <hidden>", "d": "e"}"#,
            ),
        ] {
            assert_eq!(text(shown), hidden);
        }
    }

    #[test]
    fn other_words_stay() {
        for stays in [
            "pid 12 socket=/run/io.containerd.wasmtime.v1/manager.sock\n  two lines\n",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "2025-11-29T00:00:00Z INFO serving pid=12 slots=100",
            "localhost:5000/app:1@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d",
            "user@host 12:30:00 a@b",
            "/var/lib/Kubelet1/pods/Volume2/data k8s.io/Container12345/x",
            "unix:///run/containerd/s/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
            "",
        ] {
            assert_eq!(text(stays), stays);
        }
    }

    #[test]
    fn word_of_very_many_parts_is_hidden_in_the_end() {
        assert_eq!(text("a=b=c=d"), "a=b=c=d");
        let shown = text(&"a=".repeat(1 << 20));
        assert!(shown.len() < 100 && shown.ends_with(HIDDEN), "{}", shown.len());
        let shown = text(&"a://".repeat(1 << 20));
        assert!(shown.len() < 100 && shown.ends_with(HIDDEN), "{}", shown.len());
    }

    #[test]
    fn keys_in_pem_are_hidden_to_their_ends() {
        let key = |end: &str| {
            ["a -----BEGIN RSA PRIVATE KEY-----", "MIIE/hunter2", "-----END RSA PRIVATE KEY-----"]
                .join(end)
        };
        for end in ["\n", "\\n", " "] {
            assert_eq!(text(&format!("{} b\nc", key(end))), "a <hidden> b\nc", "{end:?}");
        }
        // Without its end no more than a line, of which there may be very many.
        let cut = "x -----BEGIN PRIVATE KEY-----\\nMIIE\nnext line\n";
        assert_eq!(text(cut), "x <hidden>\nnext line\n");
        let cut = "x -----BEGIN KEY----- a\n-----END KEY\nnext";
        assert_eq!(text(cut), "x <hidden>\nnext");
        assert_eq!(text("é".repeat(LONGEST_KEY).as_str()), "é".repeat(LONGEST_KEY));
        let long = format!("{KEY_BEGIN}{}", "é".repeat(LONGEST_KEY));
        assert_eq!(text(&long), HIDDEN);
    }

    #[test]
    fn value_behind_a_flag_is_hidden() {
        let all = ["/app", "--pwd", "hunter2", "--level", "info", "--token", "--next", "x"];
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        let wanted = ["/app", "--pwd", HIDDEN, "--level", "info", "--token", "--next", "x"];
        assert_eq!(arguments(&all), wanted);
    }
}
