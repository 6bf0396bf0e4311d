//! Which export of a guest is run. Decided when the instance is made, so that a wrong name fails containerd's `Create`.

use wasmtime::{
    ExternType, Module,
    component::{
        Component, ComponentExportIndex,
        types::{ComponentFunc, ComponentItem},
    },
};

/// What is called of a core module, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleEntry {
    /// A reactor's `_initialize`, called before a named export.
    pub(crate) initialize: bool,
    /// The export that is the program.
    pub(crate) function: String,
}

/// What a component is, by what it exports.
#[derive(Clone)]
pub(crate) enum World {
    /// It is run once.
    Command(Command),
    /// It answers HTTP.
    Server(Wasi),
}

/// What is run of a component, once.
#[derive(Clone)]
pub(crate) enum Command {
    /// `wasi:cli/run`.
    Run(Wasi),
    /// The function that the user has named.
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
    /// As the user has named it.
    pub(crate) name: String,
    /// Where the component has it.
    pub(crate) index: ComponentExportIndex,
}

/// The entry of a core module: `_start` of a command, or the export that the user named with `#name`.
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
    let initialize = function.is_some() && module.get_export("_initialize").is_some();
    Ok(ModuleEntry { initialize, function: name.to_owned() })
}

/// The world of a component. One that is both a server and a command is a server: a command runs it once, by its name.
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
        format!("exports neither wasi:cli/run nor a wasi:http handler, of a version this engine knows (it exports: {exported})")
    })
}

/// A function that the component exports itself, else one of the only interface that has one of that name.
fn named_function(component: &Component, name: &str) -> Result<ComponentFunction, String> {
    let engine = component.engine();
    let ty = component.component_type();
    let (mut found, mut functions) = (Vec::new(), Vec::new());
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

/// Names are untrusted: of any length, with any characters, and as many as one likes.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
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
    fn what_cannot_be_run_is_named() {
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
