//! The properties that the fuzz targets check; the targets themselves are one line each.
//!
//! Run one with `cargo +nightly fuzz run http1_request corpus/http1_request seeds/http1` from this
//! folder. The same properties run over the seeds and random changes of them in `cargo test`.

pub use ironmesh_proxy::{client_hello, http1, message, proxy_protocol};

pub mod client_hello_properties;
pub mod first_bytes_properties;
pub mod http1_properties;
pub mod path_properties;
pub mod wire_properties;
