//! Man pages and completions of shells, from the definitions of the command line.

use std::{fs::File, io, path::Path, process::ExitCode};

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{error::CommandError, output};
use crate::subcommands::Generated;

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
        let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        for inner in visible {
            let named = inner.clone().name(format!("{name}-{}", inner.get_name()));
            open.push(named.version(version.to_owned()));
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
    use super::*;
    use crate::{config, identity::TEST, subcommands};

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        let pages = pages(&config::definitions(&TEST), "1.2.3").unwrap();
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

    #[test]
    fn shells_complete_the_commands_and_their_flags() {
        for shell in subcommands::SHELLS {
            let script = completions(config::definitions(&TEST), shell).unwrap();
            let script = String::from_utf8(script).unwrap();
            for word in ["inspect", "unused-for", "containerd-wasmtimed"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert!(completions(config::definitions(&TEST), "nosuch").is_err());
    }
}
