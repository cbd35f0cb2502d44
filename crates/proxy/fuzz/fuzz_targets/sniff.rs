//! What the first bytes of a connection say about its protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::first_bytes_properties::sniff(bytes));
