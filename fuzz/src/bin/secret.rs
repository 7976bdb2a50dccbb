#![no_main]
arras_fuzz::target!(arras_secret::fuzz_one);
