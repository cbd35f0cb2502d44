//! Headers of the PROXY protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::first_bytes_properties::proxy_protocol(bytes));
