//! Entry points: selects the export of a guest to run.
//!
//! The choice is made when the instance is prepared, so that a wrong name fails containerd's
//! `Create`. The same rules are applied to an artifact before it is compiled.

use runwasi_core::artifact::ArtifactKind;
use wasmtime::component::{Component, ComponentExportIndex};

use crate::exports::{Exports, Function, Item};

/// Names in an error message.
const LISTED: usize = 20;

/// Entry point of a core module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleEntry {
    /// True if a reactor's `_initialize` is called before the named export.
    pub(crate) initialize: bool,
    /// Name of the exported function to run.
    pub(crate) function: String,
}

/// World of a component, by its exports.
#[derive(Clone)]
pub(crate) enum World {
    /// Runs once.
    Command(Command),
    /// Answers HTTP requests.
    Server(Wasi),
}

/// Entry point of a component that runs once.
#[derive(Clone)]
pub(crate) enum Command {
    /// `wasi:cli/run`.
    Run(Wasi),
    /// The function named by the user.
    Function(ComponentFunction),
}

/// A version of WASI for components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wasi {
    P2,
    P3,
}

/// A function without parameters that a component exports.
#[derive(Clone)]
pub(crate) struct ComponentFunction {
    /// Its name, as given by the user.
    pub(crate) name: String,
    /// Its index in the component.
    pub(crate) index: ComponentExportIndex,
}

/// The entry that a compilation is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// Any: the code is compiled in advance.
    Any,
    /// The entry of a process, with the export that the user named.
    Entry(Option<String>),
}

/// Entry point of a component, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ComponentEntry {
    Server(Wasi),
    Run(Wasi),
    Function { interface: Option<String>, name: String },
}

/// Checks that an artifact has the wanted entry, before it is compiled.
pub(crate) fn check(
    kind: ArtifactKind,
    exports: &impl Exports,
    wanted: &Wanted,
) -> Result<(), String> {
    match (wanted, kind) {
        (Wanted::Any, _) => Ok(()),
        (Wanted::Entry(function), ArtifactKind::Module) => {
            module_entry(exports, function.as_deref()).map(drop)
        }
        (Wanted::Entry(function), ArtifactKind::Component) => {
            component_entry(exports, function.as_deref()).map(drop)
        }
    }
}

/// Selects the entry of a core module: `_start` of a command, or the export that the user named
/// with `#name`.
pub(crate) fn module_entry(
    module: &impl Exports,
    function: Option<&str>,
) -> Result<ModuleEntry, String> {
    let name = function.unwrap_or("_start");
    match module.item(name) {
        Some(Item::Function(0)) => {}
        Some(Item::Function(_)) => {
            return Err(format!("export {name:?} takes parameters, nobody gives them"));
        }
        Some(Item::Other) => return Err(format!("export {name:?} is not a function")),
        None => {
            let functions = functions(&module.functions());
            return Err(format!("has no export {name:?} (functions it exports: {functions})"));
        }
    }
    // A command has no `_initialize`: its `_start` initializes the module itself.
    let initialize = function.is_some() && module.item("_initialize").is_some();
    Ok(ModuleEntry { initialize, function: name.to_owned() })
}

/// Selects the world of a component, or the function that the user named.
pub(crate) fn component_world(
    component: &Component,
    function: Option<&str>,
) -> Result<World, String> {
    Ok(match component_entry(component, function)? {
        ComponentEntry::Server(version) => World::Server(version),
        ComponentEntry::Run(version) => World::Command(Command::Run(version)),
        ComponentEntry::Function { interface, name } => {
            let parent = interface.and_then(|name| component.get_export_index(None, &name));
            let index = component.get_export_index(parent.as_ref(), &name);
            // It is among the exports, so this error never occurs.
            let index = index.ok_or_else(|| format!("has no function {name:?}"))?;
            World::Command(Command::Function(ComponentFunction { name, index }))
        }
    })
}

fn component_entry(
    component: &impl Exports,
    function: Option<&str>,
) -> Result<ComponentEntry, String> {
    if let Some(name) = function {
        return named_function(component, name);
    }
    // In order of preference. A component that is both a server and a command is a server. The user
    // runs its command by name.
    let worlds = [
        ("wasi:http/handler@0.3.", ComponentEntry::Server(Wasi::P3)),
        ("wasi:http/incoming-handler@0.2.", ComponentEntry::Server(Wasi::P2)),
        ("wasi:cli/run@0.3.", ComponentEntry::Run(Wasi::P3)),
        ("wasi:cli/run@0.2.", ComponentEntry::Run(Wasi::P2)),
    ];
    let names = component.names();
    let found =
        worlds.into_iter().find(|(prefix, _)| names.iter().any(|name| name.starts_with(prefix)));
    found.map(|(_, entry)| entry).ok_or_else(|| {
        let exported = listed(names.iter().map(String::as_str));
        format!(
            "exports neither wasi:cli/run nor a wasi:http handler, of a version this engine \
             knows (it exports: {exported})"
        )
    })
}

/// Finds the only function of this name among the exports of the component and its interfaces.
fn named_function(component: &impl Exports, name: &str) -> Result<ComponentEntry, String> {
    let all = component.functions();
    let mut found = all.iter().filter(|function| function.name == name);
    match (found.next(), found.next()) {
        (Some(Function { interface, parameters: 0, .. }), None) => {
            let interface = interface.clone();
            Ok(ComponentEntry::Function { interface, name: name.to_owned() })
        }
        (Some(_), None) => Err(format!("export {name:?} takes parameters, nobody gives them")),
        (Some(_), Some(_)) => Err(format!(
            "has more than one function {name:?} (functions it exports: {})",
            functions(&all)
        )),
        (None, _) => {
            Err(format!("has no function {name:?} (functions it exports: {})", functions(&all)))
        }
    }
}

/// Lists functions for an error message.
fn functions(all: &[Function]) -> String {
    let names = all.iter().take(LISTED).map(|function| match &function.interface {
        Some(interface) => format!("{interface}#{}", function.name),
        None => function.name.clone(),
    });
    let names: Vec<_> = names.collect();
    listed(names.iter().map(String::as_str))
}

/// Lists names for an error message.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    // The names are untrusted: their number and lengths are limited, special characters escaped.
    let shown =
        |name: &str| name.chars().take(64).flat_map(char::escape_default).collect::<String>();
    let names: Vec<_> = names.map(shown).take(LISTED).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Module};

    use super::*;
    use crate::exports::Uncompiled;

    fn of(text: &str, function: Option<&str>) -> Result<ModuleEntry, String> {
        module_entry(&Module::new(&Engine::default(), text).unwrap(), function)
    }

    #[test]
    fn a_command_runs_start_and_a_named_export_runs_itself() {
        let module =
            r#"(module (func (export "_start")) (func (export "f") (result i32) i32.const 1))"#;
        assert_eq!(
            of(module, None),
            Ok(ModuleEntry { initialize: false, function: "_start".into() })
        );
        assert_eq!(
            of(module, Some("f")),
            Ok(ModuleEntry { initialize: false, function: "f".into() })
        );
    }

    #[test]
    fn a_reactor_is_initialized_before_its_export_runs() {
        let module = r#"(module (func (export "_initialize")) (func (export "f")))"#;
        assert_eq!(
            of(module, Some("f")),
            Ok(ModuleEntry { initialize: true, function: "f".into() })
        );
    }

    #[test]
    fn errors_name_the_export_that_cannot_run() {
        let module = r#"(module (memory (export "m") 1) (func (export "add") (param i32)))"#;
        assert!(
            of(module, None)
                .unwrap_err()
                .contains("no export \"_start\" (functions it exports: add)")
        );
        assert!(of(module, Some("m")).unwrap_err().contains("not a function"));
        assert!(of(module, Some("add")).unwrap_err().contains("takes parameters"));
    }

    #[test]
    fn missing_entry_is_found_before_the_compilation() {
        let refusal = |kind, text: &str, wanted: Option<&str>| {
            let exports = Uncompiled::read(kind, &wat::parse_str(text).unwrap()).unwrap();
            check(kind, &exports, &Wanted::Any).unwrap();
            check(kind, &exports, &Wanted::Entry(wanted.map(Into::into))).err()
        };
        let module = r#"(module (memory (export "m") 1) (func (export "_start")))"#;
        assert_eq!(refusal(ArtifactKind::Module, module, None), None);
        let said = refusal(ArtifactKind::Module, module, Some("f")).unwrap();
        assert!(said.contains("no export \"f\" (functions it exports: _start)"), "{said}");
        let component = r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $x (export "go" (func $f)))
            (export "a:b/c" (instance $x)))"#;
        assert_eq!(refusal(ArtifactKind::Component, component, Some("go")), None);
        let said = refusal(ArtifactKind::Component, component, None).unwrap();
        assert!(said.contains("neither wasi:cli/run") && said.contains("a:b/c"), "{said}");
        let said = refusal(ArtifactKind::Component, component, Some("stop")).unwrap();
        assert!(said.contains("no function \"stop\"") && said.contains("a:b/c#go"), "{said}");
    }
}
