#![no_main]

#[path = "../checks/parser.rs"]
mod parser;
#[path = "../checks/plain.rs"]
mod plain;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parser::check(input));
