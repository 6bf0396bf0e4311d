#![no_main]
//! Target `bootstrap_stdin`: see the module of this name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| runwasi_fuzz::bounded(
    input,
    runwasi_fuzz::bootstrap_stdin::check
));
