#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_alg_fuzz::config::check(data));
