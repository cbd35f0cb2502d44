//! How an inbound connection begins: with a ClientHello, or with what else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::first_bytes_properties::detect(bytes));
