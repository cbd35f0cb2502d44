//! Objects read in place: by the types of their tables, but without making them. For who looks at a few
//! fields of many objects that were checked before.

use std::fmt;
use std::marker::PhantomData;

use serde_json::{Map, Value};

use super::Typed;

/// An object of type `T` whose fields are read where they stand. A field of another type reads as one
/// that is left out.
pub struct Fields<'a, T> {
    value: &'a Value,
    of: PhantomData<fn() -> T>,
}

impl<'a, T> Fields<'a, T> {
    /// Those of a value.
    pub(crate) fn new(value: &'a Value) -> Self {
        Self { value, of: PhantomData }
    }

    /// A field that is there.
    pub(crate) fn find(self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    /// The object as it was sent.
    pub fn json(self) -> &'a Value {
        self.value
    }
}

impl<T> Clone for Fields<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Fields<'_, T> {}

impl<T> fmt::Debug for Fields<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// The items of a list.
#[derive(Clone, Debug)]
pub struct Items<'a, T> {
    items: std::slice::Iter<'a, Value>,
    of: PhantomData<fn() -> T>,
}

impl<'a, T> Items<'a, T> {
    /// Those of a value; none if it is no list.
    pub(super) fn new(value: &'a Value) -> Self {
        let items = value.as_array().map_or(&[][..], Vec::as_slice).iter();
        Self { items, of: PhantomData }
    }
}

impl<'a, T: Typed> Iterator for Items<'a, T> {
    type Item = T::Ref<'a>;

    fn next(&mut self) -> Option<T::Ref<'a>> {
        self.items.next().map(T::of_value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<T: Typed> DoubleEndedIterator for Items<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.items.next_back().map(T::of_value)
    }
}

impl<T: Typed> ExactSizeIterator for Items<'_, T> {}

/// Values by name.
#[derive(Debug)]
pub struct Entries<'a, T> {
    entries: Option<&'a Map<String, Value>>,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Entries<'_, T> {}

impl<'a, T: Typed> Entries<'a, T> {
    /// Those of a value; none if it is no object.
    pub(super) fn new(value: &'a Value) -> Self {
        Self { entries: value.as_object(), of: PhantomData }
    }

    /// The value of this name.
    pub fn get(self, name: &str) -> Option<T::Ref<'a>> {
        self.entries?.get(name).map(T::of_value)
    }

    /// All of them, in the order of the object.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, T::Ref<'a>)> {
        let entries = self.entries.into_iter().flatten();
        entries.map(|(name, value)| (name.as_str(), T::of_value(value)))
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.entries.map_or(0, Map::len)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kubernetes::kinds::{Deployment, Pod};
    use crate::schema::{IntegerOrText, Typed};

    #[test]
    fn what_is_read_in_place_is_what_the_type_has() {
        let object = json!({"spec": {
            "replicas": 3, "paused": true, "strategy": {"rollingUpdate": {"maxSurge": 2}},
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"spec": {"containers": [{"name": "x"}, {"name": "y"}]}},
        }});
        let (made, read) = (Deployment::typed(object.clone()), Deployment::of(&object));
        assert_eq!(read.spec().replicas(), made.spec.replicas);
        assert_eq!(read.spec().paused(), made.spec.paused);
        assert_eq!(read.spec().revision_history_limit(), made.spec.revision_history_limit);
        let (update, bounds) =
            (&made.spec.strategy.rolling_update, read.spec().strategy().rolling_update());
        assert_eq!(bounds.max_surge(), IntegerOrText::Integer(2));
        assert_eq!(bounds.max_unavailable(), update.max_unavailable);
        assert_eq!(read.spec().selector().match_labels().get("app"), Some("a"));
        let containers = read.spec().template().spec().containers();
        assert_eq!(containers.map(|c| c.name()).collect::<Vec<_>>(), ["x", "y"]);
    }

    /// The hostile twin: nothing is there, or all is of other types.
    #[test]
    fn what_is_not_there_or_of_another_type_reads_as_left_out() {
        for object in [
            json!(null),
            json!([]),
            json!({"spec": null}),
            json!({"spec": "x"}),
            json!({"spec": {"containers": {}, "restartPolicy": 1, "hostAliases": null}}),
        ] {
            let spec = Pod::of(&object).spec();
            assert_eq!(spec.restart_policy().word(), "Always", "{object}");
            assert_eq!(spec.termination_grace_period_seconds().get(), 30, "{object}");
            assert_eq!(spec.scheduler_name(), "default-scheduler", "{object}");
            assert_eq!(spec.containers().len(), 0, "{object}");
            assert_eq!(spec.host_users(), None, "{object}");
            assert_eq!(Pod::of(&object).metadata().labels().len(), 0, "{object}");
        }
    }
}
