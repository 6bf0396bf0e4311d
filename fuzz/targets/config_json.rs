#![no_main]
//! Target `config_json`: see the module of this name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| runwasi_fuzz::bounded(
    input,
    runwasi_fuzz::config_json::check
));
