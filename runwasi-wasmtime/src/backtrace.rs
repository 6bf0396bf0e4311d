//! Text of the calls of a guest at its end: wasmtime's, with the names that functions really have.
//!
//! wasmtime shows mangled names of C++ as their source has them, and takes a name of one letter for
//! an encoded type: `f` is `float`, `b` is `bool`
//! (`findings/wasmtime-names-function-f-float.sh`). Minified programs have such names.

use wasmtime::WasmBacktrace;

/// The text of a trace.
pub(crate) fn text(trace: &WasmBacktrace) -> String {
    let mut text = trace.to_string();
    for (number, frame) in trace.frames().iter().enumerate() {
        // With debug information the name is that of the source.
        let is_letter = |name: &&str| name.len() == 1 && frame.symbols().is_empty();
        if let Some(name) = frame.func_name().filter(is_letter) {
            rename(&mut text, number, name);
        }
    }
    text
}

/// Replaces the name in the line of this frame, which ends with it: `    1:    0x2d -
/// module!float`.
fn rename(text: &mut String, frame: usize, name: &str) {
    let Some(begin) = text.find(&format!("\n  {frame:>3}: ")) else { return };
    let rest = &text[begin + 1..];
    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
    if let Some(module) = line.rfind('!') {
        let shown = begin + 1 + module + 1..begin + 1 + line.len();
        text.replace_range(shown, name);
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    fn of(module: &str) -> String {
        let engine = Engine::default();
        let module = Module::new(&engine, module).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let error = run.call(&mut store, ()).unwrap_err();
        text(error.downcast_ref().unwrap())
    }

    #[test]
    fn functions_have_their_own_names() {
        let trace = of("(module $m
            (func $i (export \"run\") (call $f)) (func $f (call $_ZN1a1bEv))
            (func $_ZN1a1bEv (call $fib)) (func $fib (call 4)) (func (call $b))
            (func $b unreachable))");
        let names: Vec<_> = trace.lines().skip(1).map(|line| &line[15..]).collect();
        let expected =
            [" - m!b", " - m!<wasm function 4>", " - m!fib", " - m!a::b()", " - m!f", " - m!i"];
        assert_eq!(names, expected, "{trace}");
    }
}
