//! Entry points: selects the export of a guest to run.
//!
//! The choice is made when the instance is prepared, so that a wrong name fails containerd's
//! `Create`.

use wasmtime::{
    ExternType, Module,
    component::{
        Component, ComponentExportIndex,
        types::{ComponentFunc, ComponentItem},
    },
};

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

/// Selects the entry of a core module: `_start` of a command, or the export that the user named
/// with `#name`.
pub(crate) fn module_entry(module: &Module, function: Option<&str>) -> Result<ModuleEntry, String> {
    let name = function.unwrap_or("_start");
    match module.get_export(name) {
        Some(ExternType::Func(signature)) if signature.params().len() == 0 => {}
        Some(ExternType::Func(_)) => {
            return Err(format!("export {name:?} takes parameters, nobody gives them"));
        }
        Some(_) => return Err(format!("export {name:?} is not a function")),
        None => {
            return Err(format!(
                "has no export {name:?} (functions it exports: {})",
                functions(module)
            ));
        }
    }
    // A command has no `_initialize`: its `_start` initializes the module itself.
    let initialize = function.is_some() && module.get_export("_initialize").is_some();
    Ok(ModuleEntry { initialize, function: name.to_owned() })
}

/// Selects the world of a component, or the function that the user named.
pub(crate) fn component_world(
    component: &Component,
    function: Option<&str>,
) -> Result<World, String> {
    if let Some(name) = function {
        return named_function(component, name)
            .map(|function| World::Command(Command::Function(function)));
    }
    let engine = component.engine();
    let ty = component.component_type();
    let exports = || ty.exports(engine).map(|(name, _)| name);
    // In order of preference. A component that is both a server and a command is a server. The user
    // runs its command by name.
    let worlds = [
        ("wasi:http/handler@0.3.", World::Server(Wasi::P3)),
        ("wasi:http/incoming-handler@0.2.", World::Server(Wasi::P2)),
        ("wasi:cli/run@0.3.", World::Command(Command::Run(Wasi::P3))),
        ("wasi:cli/run@0.2.", World::Command(Command::Run(Wasi::P2))),
    ];
    let found =
        worlds.into_iter().find(|(prefix, _)| exports().any(|name| name.starts_with(prefix)));
    found.map(|(_, world)| world).ok_or_else(|| {
        let exported = listed(exports());
        format!(
            "exports neither wasi:cli/run nor a wasi:http handler, of a version this engine \
             knows (it exports: {exported})"
        )
    })
}

/// Finds the only function of this name among the exports of the component and its interfaces.
fn named_function(component: &Component, name: &str) -> Result<ComponentFunction, String> {
    let engine = component.engine();
    let ty = component.component_type();
    let mut found = Vec::new();
    let mut functions = Vec::new();
    for (export, item) in ty.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(func) => {
                functions.push(export.to_owned());
                if export == name {
                    found.push((component.get_export_index(None, export), func));
                }
            }
            ComponentItem::ComponentInstance(instance) => {
                let parent = component.get_export_index(None, export);
                for (inner, item) in instance.exports(engine) {
                    let ComponentItem::ComponentFunc(func) = item.ty else { continue };
                    functions.push(format!("{export}#{inner}"));
                    if inner == name {
                        found.push((component.get_export_index(parent.as_ref(), inner), func));
                    }
                }
            }
            _ => {}
        }
    }
    let exported = || listed(functions.iter().map(String::as_str));
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some((Some(index), func)), None) => {
            callable(&func).map_err(|reason| format!("export {name:?} {reason}"))?;
            Ok(ComponentFunction { name: name.to_owned(), index })
        }
        (Some(_), Some(_)) => Err(format!(
            "has more than one function {name:?} (functions it exports: {})",
            exported()
        )),
        _ => Err(format!("has no function {name:?} (functions it exports: {})", exported())),
    }
}

fn callable(func: &ComponentFunc) -> Result<(), &'static str> {
    if func.params().len() == 0 { Ok(()) } else { Err("takes parameters, nobody gives them") }
}

fn functions(module: &Module) -> String {
    let functions = module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
    listed(functions.map(|export| export.name()))
}

/// Lists names for an error message.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    // The names are untrusted: their number and lengths are limited, special characters escaped.
    let shown =
        |name: &str| name.chars().take(64).flat_map(char::escape_default).collect::<String>();
    let names: Vec<_> = names.map(shown).take(20).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

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
}
