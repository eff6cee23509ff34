#![no_main]

#[path = "../cases/agent_messages.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|data: &[u8]| case::run(data));
