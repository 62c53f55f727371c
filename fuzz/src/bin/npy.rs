#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stridewise_fuzz::npy::run(bytes));
