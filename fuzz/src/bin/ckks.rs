#![no_main]
arras_fuzz::target!(arras_ckks::fuzz_one);
