//! Fields of objects, taken away to see what each decides.

use std::collections::BTreeMap;

use serde_json::Value;

/// In how many configurations a field decided something.
#[derive(Debug)]
pub struct Decisive {
    fields: &'static [&'static str],
    least: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Decisive {
    /// Of these fields, each as `KIND PATH`, where `[]` stands for every item of a list. `least`: in how
    /// many each has to.
    pub fn of(fields: &'static [&'static str], least: usize) -> Self {
        Self { fields, least, counts: BTreeMap::new() }
    }

    /// Counts the fields of a configuration without which one of the questions would have another
    /// answer. Those that have decided often enough are not looked at again.
    pub fn count<Q, A: PartialEq>(
        &mut self,
        objects: &[Value],
        questions: &[Q],
        answer: impl Fn(&[Value], &Q) -> A,
    ) {
        let with: Vec<A> = questions.iter().map(|question| answer(objects, question)).collect();
        for field in self.fields {
            if self.count_of(field) >= self.least {
                continue;
            }
            let Some(rest) = without(objects, field) else { continue };
            if questions.iter().zip(&with).any(|(question, with)| answer(&rest, question) != *with)
            {
                *self.counts.entry(field).or_default() += 1;
            }
        }
    }

    /// Fails if a field decided something in too few configurations.
    ///
    /// # Panics
    ///
    /// If so.
    pub fn check(&self) {
        let few = self.fields.iter().filter(|field| self.count_of(field) < self.least);
        let few: Vec<_> = few.map(|field| (field, self.count_of(field))).collect();
        assert!(few.is_empty(), "{few:#?} of {}", self.least);
    }

    fn count_of(&self, field: &str) -> usize {
        self.counts.get(field).copied().unwrap_or_default()
    }
}

/// The objects without a field; `None` if none has it.
fn without(objects: &[Value], field: &str) -> Option<Vec<Value>> {
    let (kind, path) = field.split_once(' ').unwrap();
    let mut rest = objects.to_vec();
    let mut any = false;
    for object in rest.iter_mut().filter(|object| object["kind"] == kind) {
        any |= take(object, path);
    }
    any.then_some(rest)
}

/// Takes a field away, wherever it is, and tells whether it was.
fn take(value: &mut Value, path: &str) -> bool {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, is_list) = first.strip_suffix("[]").map_or((first, false), |name| (name, true));
    let Some(fields) = value.as_object_mut() else { return false };
    if rest.is_empty() {
        return fields.remove(name).is_some();
    }
    match fields.get_mut(name) {
        Some(Value::Array(items)) if is_list => {
            // From all of them, not from the first alone.
            items.iter_mut().filter_map(|item| take(item, rest).then_some(())).count() > 0
        }
        Some(inner) if !is_list => take(inner, rest),
        _ => false,
    }
}
