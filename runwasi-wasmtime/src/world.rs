//! Which export of a guest is run. Decided when the instance is made, so that a wrong name fails containerd's `Create`.

use wasmtime::{ExternType, Module};

/// What is called, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// A reactor's `_initialize`, called before a named export.
    pub(crate) initialize: bool,
    /// The export that is the program.
    pub(crate) function: String,
}

/// The entry of a core module: `_start` of a command, or the export that the user named with `#name`.
pub(crate) fn entry(module: &Module, function: Option<&str>) -> Result<Entry, String> {
    let name = function.unwrap_or("_start");
    match module.get_export(name) {
        Some(ExternType::Func(signature)) if signature.params().len() == 0 => {}
        Some(ExternType::Func(_)) => return Err(format!("export {name:?} takes parameters, nobody gives them")),
        Some(_) => return Err(format!("export {name:?} is not a function")),
        None => {
            return Err(format!("has no export {name:?} (functions it exports: {})", functions(module)));
        }
    }
    let initialize = function.is_some() && module.get_export("_initialize").is_some();
    Ok(Entry { initialize, function: name.to_owned() })
}

fn functions(module: &Module) -> String {
    let functions = module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
    // Names are untrusted: of any length, with any characters.
    let shown = |name: &str| name.chars().take(64).flat_map(char::escape_default).collect::<String>();
    let names: Vec<_> = functions.map(|export| shown(export.name())).take(20).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    fn of(text: &str, function: Option<&str>) -> Result<Entry, String> {
        entry(&Module::new(&Engine::default(), text).unwrap(), function)
    }

    #[test]
    fn a_command_runs_start_and_a_named_export_runs_itself() {
        let module = r#"(module (func (export "_start")) (func (export "f") (result i32) i32.const 1))"#;
        assert_eq!(of(module, None), Ok(Entry { initialize: false, function: "_start".into() }));
        assert_eq!(of(module, Some("f")), Ok(Entry { initialize: false, function: "f".into() }));
    }

    #[test]
    fn a_reactor_is_initialized_before_its_export_runs() {
        let module = r#"(module (func (export "_initialize")) (func (export "f")))"#;
        assert_eq!(of(module, Some("f")), Ok(Entry { initialize: true, function: "f".into() }));
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let module = r#"(module (memory (export "m") 1) (func (export "add") (param i32)))"#;
        assert!(of(module, None).unwrap_err().contains("no export \"_start\" (functions it exports: add)"));
        assert!(of(module, Some("m")).unwrap_err().contains("not a function"));
        assert!(of(module, Some("add")).unwrap_err().contains("takes parameters"));
    }
}
