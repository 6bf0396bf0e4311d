//! The guest `cli_exports.wasm`, a component that is no command but has exports that are called by name. Run by the
//! end-to-end tests.

wit_bindgen::generate!({ path: "wit" });

struct Exports;

impl Guest for Exports {
    fn greet() {
        println!("Hello from greet!");
    }

    fn fail() -> Result<(), String> {
        Err("failed on purpose".to_owned())
    }

    fn trap() {
        core::arch::wasm32::unreachable()
    }

    fn with_parameters(number: u32) {
        println!("{number}");
    }
}

export!(Exports);
