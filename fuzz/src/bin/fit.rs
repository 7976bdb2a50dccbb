#![no_main]
arras_fuzz::target!(arras_fit::fuzz_one);
