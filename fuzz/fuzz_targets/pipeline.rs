#![no_main]

#[path = "../../dataplane/tests/bed/mod.rs"]
mod bed;
#[path = "../checks/pipeline/mod.rs"]
mod pipeline;
#[path = "../checks/plain.rs"]
mod plain;

libfuzzer_sys::fuzz_target!(|input: &[u8]| pipeline::check(input));
