//! What a TLS client says first.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::client_hello_properties::hello(bytes));
