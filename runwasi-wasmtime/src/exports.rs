//! Exports of an artifact, as the choice of its entry needs them: from compiled code, and from the
//! bytes before they are compiled.

use runwasi_core::artifact::ArtifactKind;
use wasmparser::{
    CompositeInnerType, Parser, Payload, ValidPayload, Validator, WasmFeatures,
    component_types::ComponentEntityType,
    types::{EntityType, Types},
};
use wasmtime::{
    ExternType, Module,
    component::{
        Component,
        types::{ComponentFunc, ComponentItem},
    },
};

/// Exports of a module or component.
pub(crate) trait Exports {
    /// The item that a core module exports by this name.
    fn item(&self, name: &str) -> Option<Item>;

    /// Names of all exports.
    fn names(&self) -> Vec<String>;

    /// All exported functions, those of exported interfaces included.
    fn functions(&self) -> Vec<Function>;
}

/// An export of a core module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A function with so many parameters.
    Function(usize),
    Other,
}

/// An exported function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// The exported interface that has it. Absent if it is exported itself.
    pub(crate) interface: Option<String>,
    pub(crate) name: String,
    pub(crate) parameters: usize,
}

impl Function {
    fn alone(name: &str, parameters: usize) -> Self {
        Self { interface: None, name: name.to_owned(), parameters }
    }

    fn of(interface: &str, name: &str, parameters: usize) -> Self {
        Self { interface: Some(interface.to_owned()), ..Self::alone(name, parameters) }
    }
}

impl Exports for Module {
    fn item(&self, name: &str) -> Option<Item> {
        self.get_export(name).map(|ty| match ty {
            ExternType::Func(signature) => Item::Function(signature.params().len()),
            _ => Item::Other,
        })
    }

    fn names(&self) -> Vec<String> {
        self.exports().map(|export| export.name().to_owned()).collect()
    }

    fn functions(&self) -> Vec<Function> {
        let functions = self.exports().filter_map(|export| match export.ty() {
            ExternType::Func(signature) => {
                Some(Function::alone(export.name(), signature.params().len()))
            }
            _ => None,
        });
        functions.collect()
    }
}

impl Exports for Component {
    fn item(&self, _: &str) -> Option<Item> {
        None
    }

    fn names(&self) -> Vec<String> {
        let engine = self.engine();
        self.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect()
    }

    fn functions(&self) -> Vec<Function> {
        let engine = self.engine();
        let parameters = |function: &ComponentFunc| function.params().len();
        let mut functions = Vec::new();
        for (export, item) in self.component_type().exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(function) => {
                    functions.push(Function::alone(export, parameters(&function)));
                }
                ComponentItem::ComponentInstance(instance) => {
                    for (name, item) in instance.exports(engine) {
                        if let ComponentItem::ComponentFunc(function) = item.ty {
                            functions.push(Function::of(export, name, parameters(&function)));
                        }
                    }
                }
                _ => {}
            }
        }
        functions
    }
}

/// Exports of an artifact that is not compiled.
pub(crate) struct Uncompiled {
    names: Vec<(String, Item)>,
    functions: Vec<Function>,
}

impl Uncompiled {
    /// Reads the exports of a binary artifact. Absent if it is invalid: the compilation finds the
    /// mistake again, and describes it.
    pub(crate) fn read(kind: ArtifactKind, wasm: &[u8]) -> Option<Self> {
        // The engine's own features are fewer, which the compilation checks.
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut of_component = Vec::new();
        let mut depth = 0;
        let mut types = None;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.ok()?;
            match &payload {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports.clone() {
                        of_component.push(export.ok()?.name.name.to_owned());
                    }
                }
                _ => {}
            }
            // Bodies of functions are not validated: the compilation does it.
            if let ValidPayload::End(end) = validator.payload(&payload).ok()? {
                // The outermost end is the last.
                types = Some(end);
            }
        }
        let types = types?;
        Some(match kind {
            ArtifactKind::Module => Self::of_module(&types),
            ArtifactKind::Component => Self::of_component(of_component, &types),
        })
    }

    fn of_module(types: &Types) -> Self {
        let item = |ty: EntityType| match ty {
            EntityType::Func(id) | EntityType::FuncExact(id) => {
                match &types[id].composite_type.inner {
                    CompositeInnerType::Func(function) => Item::Function(function.params().len()),
                    _ => Item::Other,
                }
            }
            _ => Item::Other,
        };
        let all = types.as_ref();
        let exports = all.core_exports().into_iter().flatten();
        let names: Vec<_> = exports.map(|(name, ty)| (name.to_owned(), item(ty))).collect();
        let functions = names.iter().filter_map(|(name, item)| match item {
            Item::Function(parameters) => Some(Function::alone(name, *parameters)),
            Item::Other => None,
        });
        Self { functions: functions.collect(), names }
    }

    fn of_component(names: Vec<String>, types: &Types) -> Self {
        let mut functions = Vec::new();
        let all = types.as_ref();
        for export in &names {
            match all.component_item_for_export(export).map(|item| item.ty) {
                Some(ComponentEntityType::Func(id)) => {
                    functions.push(Function::alone(export, types[id].params.len()));
                }
                Some(ComponentEntityType::Instance(id)) => {
                    for (name, item) in &types[id].exports {
                        if let ComponentEntityType::Func(id) = item.ty {
                            functions.push(Function::of(export, name, types[id].params.len()));
                        }
                    }
                }
                _ => {}
            }
        }
        Self { functions, names: names.into_iter().map(|name| (name, Item::Other)).collect() }
    }
}

impl Exports for Uncompiled {
    fn item(&self, name: &str) -> Option<Item> {
        self.names.iter().find(|(known, _)| known == name).map(|(_, item)| *item)
    }

    fn names(&self) -> Vec<String> {
        self.names.iter().map(|(name, _)| name.clone()).collect()
    }

    fn functions(&self) -> Vec<Function> {
        self.functions.clone()
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    fn uncompiled(kind: ArtifactKind, text: &str) -> Uncompiled {
        Uncompiled::read(kind, &wat::parse_str(text).unwrap()).unwrap()
    }

    fn all(exports: &impl Exports) -> (Vec<String>, Vec<Function>) {
        (exports.names(), exports.functions())
    }

    #[test]
    fn exports_of_a_module_are_the_same_before_and_after_its_compilation() {
        let text = r#"(module
            (import "a" "f" (func $f (param i32 i64)))
            (func $g)
            (memory (export "m") 1)
            (export "f" (func $f)) (export "g" (func $g)))"#;
        let before = uncompiled(ArtifactKind::Module, text);
        let after = Module::new(&Engine::default(), text).unwrap();
        for name in ["m", "f", "g", "missing"] {
            assert_eq!(before.item(name), after.item(name), "{name}");
        }
        assert_eq!(before.item("f"), Some(Item::Function(2)));
        assert_eq!(all(&before), all(&after));
    }

    #[test]
    fn exports_of_a_component_are_the_same_before_and_after_its_compilation() {
        let text = r#"(component
            (core module $m (func (export "f") (param i32)) (func (export "inner")))
            (core instance $i (instantiate $m))
            (func $f (param "a" u32) (canon lift (core func $i "f")))
            (instance $named (export "call" (func $f)))
            (export "x:y/z" (instance $named))
            (export "f" (func $f)))"#;
        let before = uncompiled(ArtifactKind::Component, text);
        let after = Component::new(&Engine::default(), text).unwrap();
        assert_eq!(all(&before), all(&after));
        let expected = vec![Function::of("x:y/z", "call", 1), Function::alone("f", 1)];
        assert_eq!(before.functions(), expected);
    }

    #[test]
    fn invalid_bytes_have_no_exports_to_check() {
        assert!(Uncompiled::read(ArtifactKind::Module, b"\0asm\x01\0\0\0\x07\x7f").is_none());
        let text = r#"(module (export "f" (func 0)))"#;
        let wasm = wat::parse_str(text).unwrap();
        assert!(Uncompiled::read(ArtifactKind::Module, &wasm).is_none());
    }
}
