//! Responses in HTTP/1.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::http1_properties::responses(bytes));
