//! The target `certificate` for libFuzzer. In: bytes. Out: as `tests/fuzz/src` says. Must not know: the target.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gvm_fuzz::run("certificate", data));
