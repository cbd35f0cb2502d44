//! Resources of the push protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironmesh_proxy_fuzz::wire_properties::resource(bytes));
