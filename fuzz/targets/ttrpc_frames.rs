#![no_main]
//! Target `ttrpc_frames`: see the module of this name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| runwasi_fuzz::bounded(
    input,
    runwasi_fuzz::ttrpc_frames::check
));
