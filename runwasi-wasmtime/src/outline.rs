//! Outline of an artifact: what can be checked before it is compiled.
//!
//! An *outline* is a module or component that has the imports of the artifact and nothing else. It
//! is compiled in a moment, and linking it finds each import that is missing or has another type.

use std::ops::Range;

use runwasi_core::artifact::ArtifactKind;
use wasmparser::{
    CompositeInnerType, FuncType, MemoryType, Parser, Payload, RecGroup, SectionLimited, TypeRef,
    ValType,
};

use crate::settings::Settings;

/// Sections of the binary formats.
mod section {
    pub(super) const CUSTOM: u8 = 0;
    pub(super) const TYPE: u8 = 1;
    pub(super) const IMPORT: u8 = 2;
    pub(super) const CORE_TYPE: u8 = 3;
    pub(super) const ALIAS: u8 = 6;
    pub(super) const COMPONENT_TYPE: u8 = 7;
    pub(super) const COMPONENT_IMPORT: u8 = 10;
}

/// Magic number, version and layer.
const PREAMBLE: usize = 8;

/// A function type without parameters and results.
const PLAIN_FUNCTION: [u8; 3] = [0x60, 0, 0];

/// The outline of a binary artifact. Absent if there is nothing to check by it, or no way: the
/// compilation checks again, and finds what is wrong with bytes that cannot be parsed.
pub(crate) fn outline(kind: ArtifactKind, wasm: &[u8]) -> Option<Vec<u8>> {
    match kind {
        ArtifactKind::Module => module(wasm),
        ArtifactKind::Component => component(wasm),
    }
}

/// Checks what each module in the artifact defines against the settings, which the pool enforces.
pub(crate) fn check_bounds(wasm: &[u8], settings: &Settings) -> Result<(), String> {
    for payload in Parser::new(0).parse_all(wasm) {
        // The compilation finds the mistake again, and describes it.
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::MemorySection(memories) => {
                let key = "module-memories";
                at_most("memories", memories.count(), settings.module_memories, key)?;
                memories.into_iter().flatten().try_for_each(|memory| size(&memory, settings))?;
            }
            Payload::TableSection(tables) => {
                at_most("tables", tables.count(), settings.module_tables, "module-tables")?;
                let elements = tables.into_iter().flatten().map(|table| table.ty.initial).max();
                let elements = u32::try_from(elements.unwrap_or(0)).unwrap_or(u32::MAX);
                let what = "elements in one table";
                at_most(what, elements, settings.table_elements, "table-elements")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks the first size of a memory.
fn size(memory: &MemoryType, settings: &Settings) -> Result<(), String> {
    /// 64 KiB as a power of two, the largest page.
    const PAGE: u32 = 16;
    let bytes = u128::from(memory.initial) << memory.page_size_log2.unwrap_or(PAGE).min(PAGE);
    let gib = u32::try_from(bytes.div_ceil(1 << 30)).unwrap_or(u32::MAX);
    at_most("GiB in one memory", gib, settings.memory_size, "memory-size")
}

fn at_most(what: &str, defined: u32, most: u32, key: &str) -> Result<(), String> {
    match defined <= most {
        true => Ok(()),
        false => Err(format!(
            "a module defines {defined} {what}, at most {most} are allowed: the setting \
             engine.{key} raises the limit"
        )),
    }
}

/// Types and imports of a core module.
fn module(wasm: &[u8]) -> Option<Vec<u8>> {
    let mut types = None;
    let mut imports = None;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::TypeSection(section) => types = Some(section),
            Payload::ImportSection(section) => imports = Some(section),
            // Sections have an order: no import follows.
            Payload::FunctionSection(_) | Payload::ExportSection(_) => break,
            _ => {}
        }
    }
    let imports = imports?;
    let mut used = Vec::new();
    for import in imports.clone().into_imports() {
        match import.ok()?.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => used.push(index),
            TypeRef::Tag(tag) => used.push(tag.func_type_idx),
            _ => {}
        }
    }
    let mut outline = wasm.get(..PREAMBLE)?.to_vec();
    if let Some(types) = types {
        let whole = wasm.get(types.range())?;
        let fewer = used_types(wasm, types, &used);
        append(&mut outline, section::TYPE, fewer.as_deref().unwrap_or(whole));
    }
    append(&mut outline, section::IMPORT, wasm.get(imports.range())?);
    Some(outline)
}

/// A type section in which the types that imports do not use are empty, since the compiler makes
/// code for each. Absent if the types refer to each other.
fn used_types(wasm: &[u8], types: SectionLimited<'_, RecGroup>, used: &[u32]) -> Option<Vec<u8>> {
    let end = types.range().end;
    let count = types.count();
    let groups = types.into_iter_with_offsets().collect::<Result<Vec<_>, _>>().ok()?;
    let mut used_at = vec![false; groups.len()];
    used.iter().for_each(|index| {
        if let Some(at) = used_at.get_mut(*index as usize) {
            *at = true;
        }
    });
    let mut section = Vec::new();
    leb(&mut section, u64::from(count));
    let ends = groups.iter().skip(1).map(|(start, _)| *start).chain([end]);
    for ((group, end), used) in groups.iter().zip(ends).zip(used_at) {
        let is_plain = is_plain(&group.1);
        match used {
            true if is_plain => section.extend_from_slice(wasm.get(Range { start: group.0, end })?),
            false if is_plain => section.extend_from_slice(&PLAIN_FUNCTION),
            _ => return None,
        }
    }
    Some(section)
}

/// True for a function type that refers to no other type.
fn is_plain(group: &RecGroup) -> bool {
    let mut types = group.types();
    let Some(only) = types.next().filter(|_| types.len() == 0) else { return false };
    let is_alone = !group.is_explicit_rec_group()
        && only.is_final
        && only.supertype_idx.is_none()
        && !only.composite_type.shared;
    match &only.composite_type.inner {
        CompositeInnerType::Func(function) => is_alone && !refers(function),
        _ => false,
    }
}

fn refers(function: &FuncType) -> bool {
    let mut all = function.params().iter().chain(function.results());
    all.any(|ty| matches!(ty, ValType::Ref(reference) if reference.type_index().is_some()))
}

/// Types, aliases and imports of a component, as they stand before everything else.
fn component(wasm: &[u8]) -> Option<Vec<u8>> {
    let mut outline = wasm.get(..PREAMBLE)?.to_vec();
    let mut depth = 0;
    let mut has_imports = false;
    let mut is_complete = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.ok()?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
        // A nested module or component has sections of its own.
        let Some((id, range)) = payload.as_section().filter(|_| depth == 1) else { continue };
        match id {
            section::CUSTOM => {}
            // It may refer to things that the outline has not.
            section::COMPONENT_IMPORT if is_complete => return None,
            section::CORE_TYPE
            | section::ALIAS
            | section::COMPONENT_TYPE
            | section::COMPONENT_IMPORT
                if !is_complete =>
            {
                has_imports |= id == section::COMPONENT_IMPORT;
                append(&mut outline, id, wasm.get(range)?);
            }
            _ => is_complete = true,
        }
    }
    has_imports.then_some(outline)
}

fn append(outline: &mut Vec<u8>, id: u8, content: &[u8]) {
    outline.push(id);
    leb(outline, content.len() as u64);
    outline.extend_from_slice(content);
}

/// Appends an unsigned number in LEB128.
fn leb(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Engine, Linker, Module, component::Component};

    use super::*;

    fn of(kind: ArtifactKind, text: &str) -> Option<Vec<u8>> {
        outline(kind, &wat::parse_str(text).unwrap())
    }

    #[test]
    fn outline_of_a_module_has_its_imports_with_their_types_and_no_code() {
        let text = r#"(module
            (type $unused (func (param f64 f64 f64)))
            (import "a" "f" (func (param i32) (result i64)))
            (memory 1)
            (func $start) (start $start) (export "s" (func $start)))"#;
        let outline = of(ArtifactKind::Module, text).unwrap();
        let printed = Module::new(&Engine::default(), &outline).unwrap();
        let imports: Vec<_> = printed.imports().map(|import| import.name().to_owned()).collect();
        assert_eq!((imports, printed.exports().len()), (vec!["f".to_owned()], 0));
        assert!(!outline.windows(3).any(|bytes| bytes == [0x7c; 3]), "the unused type is there");
        let mut linker = Linker::<()>::new(&Engine::default());
        let wrong = |linker: &Linker<()>| {
            let module = Module::new(linker.engine(), &outline).unwrap();
            linker.instantiate_pre(&module).err().unwrap().to_string()
        };
        assert!(wrong(&linker).contains("a::f"), "{}", wrong(&linker));
        linker.func_wrap("a", "f", |_: i64| 0i64).unwrap();
        assert!(wrong(&linker).contains("incompatible"), "{}", wrong(&linker));
    }

    #[test]
    fn types_that_refer_to_each_other_stay() {
        let text = r#"(module
            (type $s (struct (field i32)))
            (type $f (func (param (ref null $s))))
            (import "a" "f" (func (type $f))))"#;
        let outline = of(ArtifactKind::Module, text).unwrap();
        Module::new(&Engine::new(Config::new().wasm_gc(true)).unwrap(), outline).unwrap();
    }

    #[test]
    fn outline_of_a_component_has_its_imports_and_none_of_its_modules() {
        let text = r#"(component
            (import "a:b/c" (instance $c (export "t" (type (sub resource)))
                (export "f" (func (result u32)))))
            (alias export $c "t" (type $t))
            (import "g" (func (param "x" (own $t))))
            (core module $m (import "x" "y" (func)) (func (export "r")))
            (export "e" (func $c "f")))"#;
        let engine = Engine::default();
        let outline = of(ArtifactKind::Component, text).unwrap();
        let component = Component::new(&engine, &outline).unwrap();
        let ty = component.component_type();
        let imports: Vec<_> = ty.imports(&engine).map(|(name, _)| name.to_owned()).collect();
        assert_eq!((imports, ty.exports(&engine).len()), (vec!["a:b/c".into(), "g".into()], 0));
    }

    #[test]
    fn artifacts_without_imports_and_late_imports_have_no_outline() {
        assert_eq!(of(ArtifactKind::Module, "(module (func))"), None);
        assert_eq!(of(ArtifactKind::Component, "(component (core module))"), None);
        let late = r#"(component (core module) (import "f" (func)))"#;
        assert_eq!(of(ArtifactKind::Component, late), None);
        assert_eq!(outline(ArtifactKind::Module, b"\0asm\x01\0\0\0\x02\x7f"), None);
    }

    #[test]
    fn definitions_beyond_a_setting_are_refused_with_its_name() {
        let settings = Settings {
            module_memories: 1,
            module_tables: 1,
            table_elements: 10,
            ..Settings::default()
        };
        let refusal =
            |text: &str| check_bounds(&wat::parse_str(text).unwrap(), &settings).unwrap_err();
        for (text, key, numbers) in [
            ("(module (memory 1) (memory 1))", "engine.module-memories", "2 memories, at most 1"),
            ("(module (table 1 funcref) (table 1 funcref))", "engine.module-tables", "2 tables"),
            ("(component (core module (table 11 funcref)))", "engine.table-elements", "11 elem"),
            ("(module (memory i64 65537))", "engine.memory-size", "5 GiB in one memory, at most 4"),
        ] {
            let error = refusal(text);
            assert!(error.contains(key) && error.contains(numbers), "{error}");
        }
        let fits = wat::parse_str("(module (memory i64 65536) (table 10 funcref))").unwrap();
        assert_eq!(check_bounds(&fits, &settings), Ok(()));
    }
}
