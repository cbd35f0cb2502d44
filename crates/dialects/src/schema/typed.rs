//! From checked values to types.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ironmesh_model::settings::parse_duration;
use serde_json::{Map, Value};

use super::{Entries, Items, Type};

/// A type that the value of a field becomes.
pub trait Typed: Default + 'static {
    /// What it is where it is read in place.
    type Ref<'a>;

    /// What the field takes.
    const TYPE: Type;

    /// Reads a value that was found to be of this type. The check puts an error on any other, and
    /// nothing is made of an object with errors; so a default in its place is never seen. What was not
    /// checked is read by [`parse`](super::parse).
    fn typed(value: Value) -> Self;

    /// The value again. Durations come out in seconds, absent fields not at all.
    fn value(&self) -> Value;

    /// A value read in place, if it is of this type.
    fn if_of_type(value: &Value) -> Option<Self::Ref<'_>>;

    /// What is read in place where nothing is.
    fn absent<'a>() -> Self::Ref<'a>;

    /// A value read in place.
    fn of_value(value: &Value) -> Self::Ref<'_> {
        Self::if_of_type(value).unwrap_or_else(Self::absent)
    }
}

/// The fields of a checked object.
pub(crate) fn entries(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(entries) => entries,
        _ => Map::new(),
    }
}

/// Takes a field out of a checked object, if it is there.
pub(crate) fn take<T: Typed>(entries: &mut Map<String, Value>, name: &str) -> Option<T> {
    entries.swap_remove(name).map(T::typed)
}

/// Puts a field into an object, unless it is absent.
pub(crate) fn put<T: Typed>(entries: &mut Map<String, Value>, name: &str, field: &T) {
    let value = field.value();
    if !value.is_null() {
        entries.insert(name.to_owned(), value);
    }
}

/// A field that may be absent, where that differs from its default.
impl<T: Typed> Typed for Option<T> {
    type Ref<'a> = Option<T::Ref<'a>>;

    const TYPE: Type = T::TYPE;

    fn typed(value: Value) -> Self {
        Some(T::typed(value))
    }

    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::value)
    }

    fn if_of_type(value: &Value) -> Option<Self::Ref<'_>> {
        T::if_of_type(value).map(Some)
    }

    fn absent<'a>() -> Self::Ref<'a> {
        None
    }
}

impl<T: Typed> Typed for Vec<T> {
    type Ref<'a> = Items<'a, T>;

    const TYPE: Type = Type::List(&T::TYPE);

    fn typed(value: Value) -> Self {
        match value {
            Value::Array(items) => items.into_iter().map(T::typed).collect(),
            _ => Self::new(),
        }
    }

    fn value(&self) -> Value {
        self.iter().map(T::value).collect()
    }

    fn if_of_type(value: &Value) -> Option<Self::Ref<'_>> {
        value.is_array().then(|| Items::new(value))
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Items::new(&Value::Null)
    }
}

impl<T: Typed> Typed for BTreeMap<String, T> {
    type Ref<'a> = Entries<'a, T>;

    const TYPE: Type = Type::Map(&T::TYPE);

    fn typed(value: Value) -> Self {
        entries(value).into_iter().map(|(name, value)| (name, T::typed(value))).collect()
    }

    fn value(&self) -> Value {
        self.iter().map(|(name, value)| (name.clone(), value.value())).collect()
    }

    fn if_of_type(value: &Value) -> Option<Self::Ref<'_>> {
        value.is_object().then(|| Entries::new(value))
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Entries::new(&Value::Null)
    }
}

impl Typed for bool {
    type Ref<'a> = Self;

    const TYPE: Type = Type::Bool;

    fn typed(value: Value) -> Self {
        Self::of_value(&value)
    }

    fn value(&self) -> Value {
        Value::Bool(*self)
    }

    fn if_of_type(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Self::default()
    }
}

impl Typed for String {
    type Ref<'a> = &'a str;

    const TYPE: Type = Type::Text;

    fn typed(value: Value) -> Self {
        match value {
            Value::String(text) => text,
            _ => Self::new(),
        }
    }

    fn value(&self) -> Value {
        Value::String(self.clone())
    }

    fn if_of_type(value: &Value) -> Option<&str> {
        value.as_str()
    }

    fn absent<'a>() -> Self::Ref<'a> {
        ""
    }
}

impl Typed for f64 {
    type Ref<'a> = Self;

    const TYPE: Type = Type::Number;

    fn typed(value: Value) -> Self {
        Self::of_value(&value)
    }

    fn value(&self) -> Value {
        Value::from(*self)
    }

    fn if_of_type(value: &Value) -> Option<Self> {
        value.as_f64()
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Self::default()
    }
}

/// A value that is not looked into.
impl Typed for Value {
    type Ref<'a> = &'a Self;

    const TYPE: Type = Type::Any;

    fn typed(value: Value) -> Self {
        value
    }

    fn value(&self) -> Value {
        self.clone()
    }

    fn if_of_type(value: &Value) -> Option<&Self> {
        Some(value)
    }

    fn absent<'a>() -> Self::Ref<'a> {
        &Self::Null
    }
}

/// A text such as `1.5s`.
impl Typed for Duration {
    type Ref<'a> = Self;

    const TYPE: Type = Type::Duration;

    fn typed(value: Value) -> Self {
        Self::of_value(&value)
    }

    fn value(&self) -> Value {
        Value::String(format!("{}s", self.as_secs_f64()))
    }

    fn if_of_type(value: &Value) -> Option<Self> {
        value.as_str().and_then(parse_duration)
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Self::default()
    }
}

/// Whole numbers within the bounds that a field of the type has.
macro_rules! integers {
    ($($(#[$doc:meta])* $of:ty: $min:expr, $max:expr;)*) => { $(
        $(#[$doc])*
        impl Typed for $of {
            type Ref<'a> = Self;

            const TYPE: Type = Type::Integer($min, $max);

            fn typed(value: Value) -> Self {
                Self::if_of_type(&value).unwrap_or_default()
            }

            fn value(&self) -> Value {
                Value::from(*self)
            }

            fn if_of_type(value: &Value) -> Option<Self> {
                value.as_i64().and_then(|number| number.try_into().ok())
            }

            fn absent<'a>() -> Self::Ref<'a> {
                Self::default()
            }
        }
    )* };
}

integers! {
    /// The number of a port: 1 to 65 535.
    u16: 1, 65_535;
    u32: 0, u32::MAX as i64;
    i32: i32::MIN as i64, i32::MAX as i64;
    u64: 0, i64::MAX;
    i64: i64::MIN, i64::MAX;
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<const MIN: i64, const MAX: i64>(pub i64);

/// A count: 0 to 2^31 - 1.
pub type Count = Bounded<0, { i32::MAX as i64 }>;
/// A count of at least one.
pub type Positive = Bounded<1, { i32::MAX as i64 }>;

impl<const MIN: i64, const MAX: i64> Bounded<MIN, MAX> {
    const IS_U32: () = assert!(MIN >= 0 && MAX <= u32::MAX as i64);

    /// The number, of a type that has no other ones.
    pub fn get(self) -> u32 {
        const { Self::IS_U32 };
        u32::try_from(self.0).unwrap_or_default()
    }
}

impl<const MIN: i64, const MAX: i64> Typed for Bounded<MIN, MAX> {
    type Ref<'a> = Self;

    const TYPE: Type = Type::Integer(MIN, MAX);

    fn typed(value: Value) -> Self {
        Self::of_value(&value)
    }

    fn value(&self) -> Value {
        Value::from(self.0)
    }

    fn if_of_type(value: &Value) -> Option<Self> {
        value.as_i64().filter(|number| (MIN..=MAX).contains(number)).map(Self)
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Self::default()
    }
}

/// A whole number, or a text: a port by number or name, a count or a percentage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntegerOrText {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl Default for IntegerOrText {
    fn default() -> Self {
        Self::Integer(0)
    }
}

impl From<i64> for IntegerOrText {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for IntegerOrText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for IntegerOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Typed for IntegerOrText {
    type Ref<'a> = Self;

    const TYPE: Type = Type::IntegerOrText;

    fn typed(value: Value) -> Self {
        Self::of_value(&value)
    }

    fn value(&self) -> Value {
        match self {
            Self::Integer(number) => Value::from(*number),
            Self::Text(text) => Value::String(text.clone()),
        }
    }

    fn if_of_type(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            value => value.as_i64().map(Self::Integer),
        }
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Self::default()
    }
}
