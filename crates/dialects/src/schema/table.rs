//! The macros with which tables are written.

/// Structs whose fields are rows of a table:
///
/// ```text
/// fields! {
///     istio;
///     /// Where requests go.
///     pub struct Destination "a destination" {
///         /// The service, by name.
///         required host: String,
///         /// Its port, if it has several.
///         honoured port: Option<PortSelector>,
///         /// How many requests of a hundred go there.
///         honoured weight: Count = Bounded(100),
///         /// Not looked at yet.
///         later unlock_policy "unlockPolicy": Option<String>,
///     }
/// }
/// ```
///
/// A row is: what the mesh does with the field (a constructor of `schema::Status`, with its
/// arguments if it has any), its name in code, its name in manifests if that is another, its type, and
/// what it is where it is left out, unless that is the type's default. The text after the struct's name is what messages call it. The dialect in front says how
/// names are compared: those of `istio` may be written in snake case, too, as protobuf's JSON allows,
/// those of `kubernetes` not; and those of `open` are `kubernetes`' of which the table has only some.
macro_rules! fields {
    ($dialect:ident; $(
        $(#[doc = $doc:literal])+
        pub struct $Name:ident $title:literal {
            $(
                $(#[doc = $field_doc:literal])+
                $status:ident $(($($argument:expr),*))? $field:ident $($json:literal)?:
                    $of:ty $(= $default:expr)?,
            )*
        }
    )*) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $( $(#[doc = $field_doc])+ pub $field: $of, )*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $( $field: $crate::schema::table::default!($($default)?), )* }
            }
        }

        impl $Name {
            /// A value of this type, read in place.
            pub fn of(value: &serde_json::Value) -> $crate::schema::Fields<'_, Self> {
                $crate::schema::Fields::new(value)
            }
        }

        impl<'a> $crate::schema::Fields<'a, $Name> { $(
            $(#[doc = $field_doc])+
            pub fn $field(self) -> <$of as $crate::schema::Typed>::Ref<'a> {
                let found = self.find($crate::schema::table::name!($field $($json)?));
                match found.and_then(<$of as $crate::schema::Typed>::if_of_type) {
                    Some(field) => field,
                    None => $crate::schema::table::absent!($of $(, $default)?),
                }
            }
        )* }

        impl $crate::schema::Typed for $Name {
            type Ref<'a> = $crate::schema::Fields<'a, Self>;

            const TYPE: $crate::schema::Type =
                $crate::schema::Type::Object(&$crate::schema::Message {
                    name: $title,
                    doc: concat!($($doc, "\n"),+),
                    open: $crate::schema::table::is_open!($dialect),
                    protobuf: $crate::schema::table::is_protobuf!($dialect),
                    fields: &[$( $crate::schema::Field {
                        name: $crate::schema::table::name!($field $($json)?),
                        doc: concat!($($field_doc, "\n"),+),
                        of: <$of as $crate::schema::Typed>::TYPE,
                        status: $crate::schema::Status::$status($($($argument),*)?),
                        default: $crate::schema::table::default_value!($of $(, $default)?),
                    }, )*],
                });

            fn typed(value: serde_json::Value) -> Self {
                let mut entries = $crate::schema::entries(value);
                Self { $(
                    $field: $crate::schema::take(
                        &mut entries,
                        $crate::schema::table::name!($field $($json)?),
                    )
                    .unwrap_or_else(|| $crate::schema::table::default!($($default)?)),
                )* }
            }

            fn value(&self) -> serde_json::Value {
                let mut entries = serde_json::Map::new();
                $( $crate::schema::put(
                    &mut entries,
                    $crate::schema::table::name!($field $($json)?),
                    &self.$field,
                ); )*
                serde_json::Value::Object(entries)
            }

            fn if_of_type(value: &serde_json::Value) -> Option<Self::Ref<'_>> {
                value.is_object().then(|| Self::of(value))
            }

            fn absent<'a>() -> Self::Ref<'a> {
                Self::of(&serde_json::Value::Null)
            }
        }
    )* };
}

/// Kinds of objects: as [`fields!`], with the fields that every object has added.
macro_rules! kind {
    ($dialect:ident; $(
        $(#[doc = $doc:literal])+
        pub struct $Name:ident $title:literal { $($rows:tt)* }
    )*) => {
        $crate::schema::fields! { $dialect; $(
            $(#[doc = $doc])+
            pub struct $Name $title {
                /// Group and version of the kind.
                required api_version "apiVersion": String,
                /// Its kind.
                required kind: String,
                /// What all objects have.
                required metadata: $crate::kubernetes::kinds::ObjectMeta,
                $($rows)*
            }
        )* }
    };
}

/// Enums whose variants are words that a field takes:
///
/// ```text
/// words! {
///     /// How traffic is spread.
///     pub enum SimpleBalance {
///         /// One after the other.
///         honoured RoundRobin = "ROUND_ROBIN",
///         /// At random.
///         later Random = "RANDOM",
///     }
/// }
/// ```
///
/// The first is the default. Letter case matters, unless the enum is marked `any_case`.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        pub enum $Name:ident $($any_case:ident)? {
            $( $(#[doc = $word_doc:literal])+ $status:ident $Variant:ident = $word:literal, )+
        }
    )*) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $( $(#[doc = $word_doc])+ $Variant, )+ }

        impl $Name {
            /// All of them, as they are written.
            const ALL: &'static [(&'static str, Self)] = &[$( ($word, Self::$Variant), )+];

            /// As it is written.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$Variant => $word, )+ }
            }
        }

        impl Default for $Name {
            fn default() -> Self {
                Self::ALL[0].1
            }
        }

        impl $crate::schema::Typed for $Name {
            type Ref<'a> = Self;

            const TYPE: $crate::schema::Type = $crate::schema::Type::Words {
                words: &[$( $crate::schema::Word {
                    word: $word,
                    doc: concat!($($word_doc, "\n"),+),
                    honoured: $crate::schema::table::is_honoured!($status),
                }, )+],
                any_case: $crate::schema::table::is_any_case!($($any_case)?),
            };

            fn typed(value: serde_json::Value) -> Self {
                Self::if_of_type(&value).unwrap_or_default()
            }

            fn if_of_type(value: &serde_json::Value) -> Option<Self> {
                let word = value.as_str()?;
                let known = Self::ALL.iter().find(|(name, _)| *name == word);
                known.map(|(_, variant)| *variant)
            }

            fn absent<'a>() -> Self::Ref<'a> {
                Self::default()
            }

            fn value(&self) -> serde_json::Value {
                serde_json::Value::from(self.word())
            }
        }
    )* };
}

/// The name in manifests of a field: that given, else that in code, which then is one word.
macro_rules! name {
    ($field:ident $json:literal) => {
        $json
    };
    ($field:ident) => {{
        const NAME: &str = stringify!($field);
        const { assert!($crate::schema::table::is_one_word(NAME), "give its name in manifests") };
        NAME
    }};
}

/// What a field is where it is left out.
macro_rules! default {
    ($default:expr) => {
        $default.into()
    };
    () => {
        Default::default()
    };
}

/// The same, where it is read in place.
macro_rules! absent {
    ($of:ty, $default:expr) => {
        $default.into()
    };
    ($of:ty) => {
        <$of as $crate::schema::Typed>::absent()
    };
}

/// The same as a value, for those who fill it in; nothing if it is the type's default.
macro_rules! default_value {
    ($of:ty, $default:expr) => {
        Some(|| $crate::schema::Typed::value(&<$of>::from($default)))
    };
    ($of:ty) => {
        None
    };
}

macro_rules! is_protobuf {
    (istio) => {
        true
    };
    ($other:ident) => {
        false
    };
}

macro_rules! is_open {
    (open) => {
        true
    };
    ($other:ident) => {
        false
    };
}

macro_rules! is_honoured {
    (honoured) => {
        true
    };
    (later) => {
        false
    };
}

macro_rules! is_any_case {
    (any_case) => {
        true
    };
    () => {
        false
    };
}

/// Whether a name is written alike in code and in manifests.
pub(crate) const fn is_one_word(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if matches!(bytes[at], b'_' | b'#') {
            return false;
        }
        at += 1;
    }
    true
}

pub(crate) use {
    absent, default, default_value, fields, is_any_case, is_honoured, is_open, is_protobuf, kind,
    name, words,
};
