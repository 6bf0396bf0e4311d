#![no_main]
//! Target `runtime_options`: see the module of this name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| runwasi_fuzz::bounded(
    input,
    runwasi_fuzz::runtime_options::check
));
