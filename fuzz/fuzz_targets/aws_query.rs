#![no_main]

#[path = "../cases/aws_query.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|data: &[u8]| case::run(data));
