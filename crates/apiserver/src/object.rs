//! Objects as the API keeps them: JSON values, so that nothing that was sent is lost.

use ironmesh_dialects::kubernetes::kinds::{AnyObject, OwnerReference};
use ironmesh_dialects::schema::Fields;
use serde_json::{Value, json};

pub(crate) use ironmesh_dialects::object::value::*;

/// An object as it was sent, with the fields that the server sets.
pub(crate) type Object = Value;

/// Levels of nesting: 0 for what is no list or map.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Values in a value, itself included.
pub(crate) fn items(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(items).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(items).sum::<usize>(),
        _ => 1,
    }
}

/// Bytes of a value as JSON; where they are more than `most`, some number above it.
pub(crate) fn bytes_up_to(value: &Value, most: usize) -> usize {
    struct Counter {
        bytes: usize,
        most: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.bytes += bytes.len();
            if self.bytes > self.most {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { bytes: 0, most };
    // It fails only where counting is to stop.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.bytes
}

/// A value as JSON, unless that has more than `most` bytes.
pub(crate) fn json_up_to(value: &Value, most: usize) -> Option<Vec<u8>> {
    struct Bounded {
        bytes: Vec<u8>,
        most: usize,
    }
    impl std::io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.bytes.len() + bytes.len() > self.most {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut json = Bounded { bytes: Vec::new(), most };
    serde_json::to_writer(&mut json, value).is_ok().then_some(json.bytes)
}

/// The owner that acts on the object.
pub(crate) fn controller(object: &Object) -> Option<Fields<'_, OwnerReference>> {
    AnyObject::of(object).metadata().controller()
}

/// Whether the owner with this uid acts on the object.
pub(crate) fn is_controlled_by(object: &Object, owner_uid: &str) -> bool {
    controller(object).is_some_and(|owner| owner.uid() == owner_uid)
}

/// The reference with which dependents name their controlling owner.
pub(crate) fn owner_reference(owner: &Object) -> Value {
    json!({
        "apiVersion": text(owner, "/apiVersion"),
        "kind": text(owner, "/kind"),
        "name": name(owner),
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Levels of nesting that an object may have: with what stands around it in a journal or a list, all
/// readers of JSON still take it (theirs end at 128).
pub(crate) const DEPTH_MAX: usize = 100;
