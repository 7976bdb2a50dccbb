#![no_main]
arras_fuzz::target!(arras_wire::fuzz_one);
