//! Man pages and completions of shells, from the definitions of the command line.

use std::{fs::File, io, path::Path, process::ExitCode};

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{error::CommandError, output};
use crate::command_line::subcommands::Generated;

/// Section of programs of the administrator.
const SECTION: &str = "8";

/// Makes what is wanted.
pub(super) fn run(
    definitions: Command,
    version: &str,
    wanted: &Generated,
) -> Result<ExitCode, CommandError> {
    match wanted {
        Generated::Completions { shell } => output::print_bytes(&completions(definitions, shell)?)?,
        Generated::Man { directory } => {
            for (name, page) in pages(&definitions, version)? {
                write(&directory.join(name), &page)?;
            }
            true
        }
    };
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, page: &[u8]) -> Result<(), CommandError> {
    let failed = |source| CommandError::Io { path: path.to_owned(), source };
    let mut file = File::create(path).map_err(failed)?;
    io::Write::write_all(&mut file, page).map_err(failed)
}

fn completions(mut definitions: Command, shell: &str) -> Result<Vec<u8>, CommandError> {
    let shell: Shell = shell.parse().map_err(CommandError::Other)?;
    let program = definitions.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut definitions, program, &mut script);
    Ok(script)
}

/// The page of the program, and one of each command: file names and contents.
fn pages(definitions: &Command, version: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let root = definitions.clone().version(version.to_owned());
    let mut pages = Vec::new();
    let mut open = vec![root.clone()];
    // The first is the program's; a command comes with the name of its page.
    while let Some(command) = open.pop() {
        let name = command.get_name().to_owned();
        let words = command.get_bin_name().unwrap_or(&name).to_owned();
        let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        for inner in visible {
            let named = inner.clone().name(format!("{name}-{}", inner.get_name()));
            // In the synopsis as it is typed. The version is in the page alone: no command has its
            // flag.
            let typed = named.bin_name(format!("{words} {}", inner.get_name()));
            open.push(typed.version(version.to_owned()).disable_version_flag(true));
        }
        let source = format!("{} {version}", root.get_name());
        let man = Man::new(command).title(name.to_uppercase()).section(SECTION);
        let mut page = Vec::new();
        man.source(source).manual("System administration").render(&mut page)?;
        pages.push((format!("{name}.{SECTION}"), page));
    }
    pages.sort();
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        command_line::{definitions, subcommands::SHELLS},
        identity::TEST,
    };

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        let pages = pages(&definitions(&TEST), "1.2.3").unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["", "-status", "-list", "-cache", "-cache-prune", "-debug-bundle"] {
            let file = format!("containerd-wasmtimed{name}.8");
            assert!(names.contains(&&*file), "{file} is not in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("-man")), "{names:?}");
        let (_, list) =
            pages.iter().find(|(name, _)| name == "containerd-wasmtimed-list.8").unwrap();
        let list = String::from_utf8_lossy(list);
        assert!(list.contains("List the sandboxes") && list.contains("1.2.3"), "{list}");
    }

    /// The flags in the synopsis and in the options of a page, which are bold.
    fn flags(page: &str) -> BTreeSet<String> {
        let bold = page.lines().filter(|line| line.starts_with("\\fB"));
        let plain =
            bold.map(|line| line.replace("\\-", "-").replace("\\fB", " ")).collect::<String>();
        let words = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
    }

    #[test]
    fn pages_have_the_commands_as_they_are_typed_and_no_flag_that_is_refused() {
        let definitions = definitions(&TEST);
        let pages = pages(&definitions, "1.2.3").unwrap();
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page);
            let words = name.trim_start_matches("containerd-wasmtimed").trim_end_matches(".8");
            let words: Vec<_> = words.split('-').filter(|word| !word.is_empty()).collect();
            let typed = ["containerd\\-wasmtimed", &words.join(" ")].join(" ");
            let synopsis = format!(".SH SYNOPSIS\n\\fB{}\\fR", typed.trim_end());
            assert!(page.contains(&synopsis), "{synopsis}: {page}");
            let command = words.iter().fold(&definitions, |command, word| {
                command.find_subcommand(word).unwrap_or_else(|| panic!("{name}"))
            });
            let known = command.get_arguments().filter_map(|arg| arg.get_long());
            let known = known.chain(["help"]).map(|flag| format!("--{flag}")).collect();
            assert_eq!(flags(&page), known, "{name}");
        }
    }

    #[test]
    fn shells_complete_the_commands_and_their_flags() {
        for shell in SHELLS {
            let script = completions(definitions(&TEST), shell).unwrap();
            let script = String::from_utf8(script).unwrap();
            for word in ["inspect", "unused-for", "containerd-wasmtimed"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert!(completions(definitions(&TEST), "nosuch").is_err());
    }
}
