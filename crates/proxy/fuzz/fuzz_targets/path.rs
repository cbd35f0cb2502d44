//! Paths of requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::path_properties::normalised(bytes));
