#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftp_alg_fuzz::host_port::check(data));
