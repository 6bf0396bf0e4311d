#![no_main]
//! Target `image_manifest`: see the module of this name.

libfuzzer_sys::fuzz_target!(|input: &[u8]| runwasi_fuzz::bounded(
    input,
    runwasi_fuzz::image_manifest::check
));
