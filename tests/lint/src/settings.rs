//! The reference of all settings, generated from the sources: `docs/settings-reference.md`.
//!
//! Keys, flags and meanings are those of the two `Settings`, of the daemon and of the engine;
//! defaults are those of the example file, which tests compare with the programs' own.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use syn::{
    Attribute, Expr, Field, Fields, File, Item, ItemStruct, Lit, Meta, Token, parse::ParseStream,
    punctuated::Punctuated,
};

const DOCUMENT: &str = "docs/settings-reference.md";
const EXAMPLE: &str = "packaging/containerd-wasmtimed.toml";
const DAEMON: &str = "runwasi-daemon/src/config/settings.rs";
const FLAGS: &str = "runwasi-daemon/src/command_line/start.rs";
const ENGINE: &str = "runwasi-wasmtime/src/settings.rs";
const BEGIN: &str = "<!-- settings: begin -->\n";
const END: &str = "<!-- settings: end -->\n";

/// The document as the sources have it, if it differs from the one that is there.
pub(crate) fn outdated(root: &Path) -> Result<Option<String>> {
    let document = text(root, DOCUMENT)?;
    let [begin, end] = [BEGIN, END].map(|mark| document.find(mark));
    let (Some(begin), Some(end)) = (begin, end) else {
        anyhow::bail!("{DOCUMENT} lacks one of its marks");
    };
    let current = format!("{}{BEGIN}{}{}", &document[..begin], generated(root)?, &document[end..]);
    Ok(Some(current).filter(|current| *current != document))
}

/// Writes the document.
pub(crate) fn write(root: &Path, document: &str) -> Result<()> {
    fs::write(root.join(DOCUMENT), document).context(DOCUMENT)
}

fn text(root: &Path, name: &str) -> Result<String> {
    fs::read_to_string(root.join(name)).with_context(|| name.to_owned())
}

fn generated(root: &Path) -> Result<String> {
    let example = Example::read(&text(root, EXAMPLE)?);
    let daemon = Rust::read(&text(root, DAEMON)?).context(DAEMON)?;
    let flags = flags(&text(root, FLAGS)?).context(FLAGS)?;
    let engine = Rust::read(&text(root, ENGINE)?).context(ENGINE)?;
    let mut out =
        String::from("## Of the daemon\n\n| key | flag | default | meaning |\n|---|---|---|---|\n");
    for field in &daemon.fields {
        out.push_str(&daemon_row(field, Some(&example)));
    }
    for field in &flags {
        out.push_str(&daemon_row(field, None));
    }
    out.push_str("\n## Of the engine\n\n| key | default | values | meaning |\n|---|---|---|---|\n");
    for field in &engine.fields {
        out.push_str(&engine_row(field, &engine, &example));
    }
    Ok(out)
}

/// A row of the daemon's table; that of a flag without a key needs no `example` file. Empty for
/// fields that no user sets.
fn daemon_row(field: &Field, example: Option<&Example>) -> String {
    let Some(arg) = attribute(field, "arg") else { return String::new() };
    if arg.split([',', '(', ')']).any(|word| word.trim() == "skip") {
        return String::new();
    }
    let name = name(field);
    let flag = quoted_after(&arg, "long = ").unwrap_or_else(|| name.clone());
    let key = example.map_or(String::new(), |_| format!("`{name}`"));
    let default = example.map_or("–".to_owned(), |example| example.default("", &name));
    format!("| {key} | `--{flag}` | {default} | {} |\n", meaning(&field.attrs))
}

fn engine_row(field: &Field, source: &Rust, example: &Example) -> String {
    let serde = attribute(field, "serde").unwrap_or_default();
    let key = quoted_after(&serde, "rename = ").unwrap_or_else(|| name(field));
    let (table, short) = key.rsplit_once('.').unwrap_or(("", &key));
    let shown =
        if table.is_empty() { format!("`{key}`") } else { format!("`[{table}]` `{short}`") };
    let default = example.default(table, short);
    let values = source.values(field, &serde);
    format!("| {shown} | {default} | {values} | {} |\n", meaning(&field.attrs))
}

/// A parsed file: the fields of its settings, the rest with the numbers of its constants.
struct Rust {
    fields: Vec<Field>,
    file: File,
    constants: HashMap<String, String>,
}

impl Rust {
    fn read(text: &str) -> Result<Self> {
        let mut file = syn::parse_file(text)?;
        let constants = file.items.iter().filter_map(|item| match item {
            Item::Const(constant) => Some((constant.ident.to_string(), number(&constant.expr)?)),
            _ => None,
        });
        let constants = constants.collect();
        let fields = take_fields(&mut file.items, "Settings")?;
        ensure!(!fields.is_empty(), "no fields in `Settings`");
        Ok(Self { fields, file, constants })
    }

    /// The values that a key may have: a range, or those of an enum, or `true` and `false`.
    fn values(&self, field: &Field, serde: &str) -> String {
        let kind = type_name(field);
        if let Some((_, bounds)) = serde.split_once("Within::<") {
            let bounds = bounds.split('>').next().unwrap_or_default();
            let bounds = bounds.split(',').map(|bound| self.number(bound.trim()));
            return bounds.collect::<Vec<_>>().join(" to ");
        }
        if kind == "bool" {
            return "`true`, `false`".to_owned();
        }
        let variants = self.file.items.iter().find_map(|item| match item {
            Item::Enum(item) if item.ident == kind => Some(&item.variants),
            _ => None,
        });
        let variants = variants.into_iter().flatten().map(|variant| {
            format!(
                "`\"{}\"`: {}",
                kebab(&variant.ident.to_string()),
                small(&meaning(&variant.attrs))
            )
        });
        variants.collect::<Vec<_>>().join("; ")
    }

    fn number(&self, bound: &str) -> String {
        let plain = bound.replace('_', "");
        self.constants.get(bound).cloned().unwrap_or(plain)
    }
}

/// The flags that are no settings.
fn flags(text: &str) -> Result<Vec<Field>> {
    take_fields(&mut syn::parse_file(text)?.items, "StartFlags")
}

/// The lines `key = value` of the example file by table and key, those in comments included.
struct Example {
    defaults: HashMap<(String, String), (String, bool)>,
}

impl Example {
    fn read(text: &str) -> Self {
        let mut table = String::new();
        let mut defaults = HashMap::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut table);
            }
            let shown = line.strip_prefix("# ");
            let Some((key, value)) = shown.unwrap_or(line).split_once(" = ") else { continue };
            let value = value.split(" #").next().unwrap_or(value).trim().to_owned();
            defaults.entry((table.clone(), key.to_owned())).or_insert((value, shown.is_some()));
        }
        Self { defaults }
    }

    /// A default for the table. What stands in a comment follows from other values.
    fn default(&self, table: &str, key: &str) -> String {
        match self.defaults.get(&(table.to_owned(), key.to_owned())) {
            Some((value, false)) => format!("`{value}`"),
            Some((_, true)) => "follows".to_owned(),
            None => "–".to_owned(),
        }
    }
}

/// The fields of a struct, or of the macro that makes `Settings`.
fn take_fields(items: &mut Vec<Item>, name: &str) -> Result<Vec<Field>> {
    let is_wanted = |item: &Item| match item {
        Item::Struct(item) => item.ident == name,
        Item::Macro(item) => name == "Settings" && item.mac.path.is_ident("settings"),
        _ => false,
    };
    let Some(at) = items.iter().position(is_wanted) else { return Ok(Vec::new()) };
    let of_macro = |body: ParseStream<'_>| body.parse_terminated(Field::parse_named, Token![,]);
    let fields = match items.remove(at) {
        Item::Macro(item) => item.mac.parse_body_with(of_macro)?,
        Item::Struct(ItemStruct { fields: Fields::Named(fields), .. }) => fields.named,
        _ => Punctuated::new(),
    };
    Ok(fields.into_iter().collect())
}

fn name(field: &Field) -> String {
    field.ident.as_ref().map(ToString::to_string).unwrap_or_default().replace('_', "-")
}

/// The last word of a type, without `Option`.
fn type_name(field: &Field) -> String {
    match &field.ty {
        syn::Type::Path(path) => {
            path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// The tokens of all attributes of this name.
fn attribute(field: &Field, name: &str) -> Option<String> {
    let lists = field.attrs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident(name) => Some(list.tokens.to_string()),
        _ => None,
    });
    lists.reduce(|all, list| all + " , " + &list)
}

fn quoted_after(tokens: &str, start: &str) -> Option<String> {
    let rest = tokens.split_once(start)?.1.strip_prefix('"')?;
    Some(rest.split('"').next()?.to_owned())
}

/// The text of a documentation comment, on one line of a table.
fn meaning(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    // Links to items of Rust lead nowhere in the document.
    let text = text.split("; see [`").next().unwrap_or_default();
    let text = text.replace("; `None`: compiled code is not kept", ", or `\"off\"`");
    text.trim_end_matches('.').replace('|', "\\|")
}

fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => Some(number.base10_digits().to_owned()),
            _ => None,
        },
        _ => None,
    }
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        const MOST: u32 = 20_000;
        settings! {
            /// How many,
            /// at most.
            #[serde(with = \"Within::<1, MOST>\")]
            a_b: u32 = 7,
            /// Kind.
            #[serde(rename = \"engine.kind\")]
            kind: Kind = Kind::VeryFast,
            /// Size.
            #[serde(rename = \"engine.size\")]
            size: Option<u32> = None,
        }
        enum Kind {
            /// Fast code.
            VeryFast,
        }";
    const EXAMPLE_TEXT: &str = "a-b = 7 # pieces\n[engine]\nkind = \"very-fast\"\n# size = 5\n";

    #[test]
    fn rows_have_key_default_values_and_meaning() {
        let source = Rust::read(SOURCE).unwrap();
        let example = Example::read(EXAMPLE_TEXT);
        let rows: Vec<_> =
            source.fields.iter().map(|field| engine_row(field, &source, &example)).collect();
        let expected = [
            "| `a-b` | `7` | 1 to 20000 | How many, at most |\n",
            "| `[engine]` `kind` | `\"very-fast\"` | `\"very-fast\"`: fast code | Kind |\n",
            "| `[engine]` `size` | follows |  | Size |\n",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_of_the_daemon_have_flags_and_leave_out_what_no_user_sets() {
        let source = Rust::read(
            "struct Settings {
                /// Directory.
                #[arg(long = \"bundle-root\", value_name = \"DIR\")]
                bundle_roots: Vec<PathBuf>,
            }",
        );
        let flags = flags(
            "struct StartFlags {
                /// Wait.
                #[arg(long)]
                guard: bool,
                #[arg(skip)]
                of_hosts: Vec<OsString>,
            }",
        );
        let example = Example::read("bundle-roots = [\"/run\"]\n");
        let source = source.unwrap();
        let flags = flags.unwrap();
        let of_keys = source.fields.iter().map(|field| daemon_row(field, Some(&example)));
        let rows: Vec<_> =
            of_keys.chain(flags.iter().map(|field| daemon_row(field, None))).collect();
        let expected = [
            "| `bundle-roots` | `--bundle-root` | `[\"/run\"]` | Directory |\n",
            "|  | `--guard` | – | Wait |\n",
            "",
        ];
        assert_eq!(rows, expected);
    }
}
