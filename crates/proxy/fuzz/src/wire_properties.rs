//! What must hold of the encoding of resources for any bytes whatever.

use ironmesh_wire::codec::{decode, encode};

/// What is understood means the same, and has the same bytes, once it was encoded again.
pub fn resource(bytes: &[u8]) {
    let Ok(resource) = decode(bytes) else { return };
    let encoded = encode(&resource);
    let again = decode(&encoded).expect("what was encoded is understood");
    assert_eq!(again, resource);
    assert_eq!(encode(&again), encoded);
}
