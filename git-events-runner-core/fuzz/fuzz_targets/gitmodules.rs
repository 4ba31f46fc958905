#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| git_events_runner_core::git::fuzzing::gitmodules(data));
