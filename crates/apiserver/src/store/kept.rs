//! Objects as the store keeps them: their JSON, and those that are used as values, too. A value takes
//! about ten times the memory of its text, and most objects are not used for hours.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::object::{self, Object};

/// An object. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Kept(Arc<Text>);

#[derive(Debug)]
struct Text {
    json: Box<[u8]>,
    /// The value, while somebody has it.
    value: Mutex<Weak<Object>>,
}

impl Kept {
    /// Keeps an object; none if it has more than `most` bytes.
    pub(super) fn of(object: &Arc<Object>, most: usize) -> Option<Self> {
        let json = object::json_up_to(object, most)?.into();
        Some(Self(Arc::new(Text { json, value: Mutex::new(Arc::downgrade(object)) })))
    }

    /// The object as JSON.
    pub(super) fn json(&self) -> &[u8] {
        &self.0.json
    }

    /// The object.
    pub(super) fn value(&self) -> Arc<Object> {
        let mut value = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
        value.upgrade().unwrap_or_else(|| {
            // What was written as JSON can be read.
            let read: Arc<Object> =
                Arc::new(serde_json::from_slice(&self.0.json).unwrap_or_default());
            *value = Arc::downgrade(&read);
            read
        })
    }
}

/// Values that were used just now, and stay values for a while.
#[derive(Debug, Default)]
pub(super) struct Recent {
    values: VecDeque<(Arc<Object>, usize)>,
    /// Of their JSON.
    bytes: usize,
}

impl Recent {
    /// The value of an object, which is used now.
    pub(super) fn value(&mut self, kept: &Kept) -> Arc<Object> {
        let is_value =
            Weak::strong_count(&kept.0.value.lock().unwrap_or_else(PoisonError::into_inner)) > 0;
        let value = kept.value();
        if !is_value {
            self.note(value.clone(), kept.json().len());
        }
        value
    }

    /// Notes a value that is used now.
    pub(super) fn note(&mut self, value: Arc<Object>, json_bytes: usize) {
        self.bytes += json_bytes;
        self.values.push_back((value, json_bytes));
        while self.bytes > RECENT_BYTES
            && let Some((_, bytes)) = self.values.pop_front()
        {
            self.bytes -= bytes;
        }
    }
}

/// Bytes of JSON of the objects that stay values: about twenty pods, so that what changes a few times
/// in a row is not read again each time. Their values take ten times as much.
const RECENT_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_a_value_while_it_is_used_and_text_afterwards() {
        let object = Arc::new(json!({"b": [1, 2.5, -3, null], "a": {"text": "\u{e9}\"\\"}}));
        let kept = Kept::of(&object, 1_000).unwrap();
        assert!(Arc::ptr_eq(&kept.value(), &object));
        let weak = Arc::downgrade(&object);
        drop(object);
        assert!(weak.upgrade().is_none());
        let mut recent = Recent::default();
        let again = recent.value(&kept);
        assert_eq!(again.to_string(), r#"{"b":[1,2.5,-3,null],"a":{"text":"é\"\\"}}"#);
        let weak = Arc::downgrade(&again);
        drop(again);
        assert!(
            Arc::ptr_eq(&recent.value(&kept), &weak.upgrade().unwrap()),
            "it was used just now"
        );
        let other = Arc::new(json!("x".repeat(RECENT_BYTES)));
        recent.note(other.clone(), RECENT_BYTES);
        assert!(weak.upgrade().is_none(), "others were used since");
        assert!(Kept::of(&other, 1_000).is_none());
    }
}
