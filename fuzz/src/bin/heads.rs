#![no_main]
arras_fuzz::target!(arras_heads::fuzz_one);
