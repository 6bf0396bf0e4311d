#![no_main]
//! Target `daemon_config`: see the module of this name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| runwasi_fuzz::bounded(
    input,
    runwasi_fuzz::daemon_config::check
));
