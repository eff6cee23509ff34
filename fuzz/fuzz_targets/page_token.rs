#![no_main]

#[path = "../cases/page_token.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|data: &[u8]| case::run(data));
