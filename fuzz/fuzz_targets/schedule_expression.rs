#![no_main]

#[path = "../cases/schedule_expression.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|data: &[u8]| case::run(data));
