#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| git_events_runner_operator_fuzz::fuzzing::read("github", data));
