use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ironmesh_model::{ResourceKey, Version};
use proptest::prelude::*;
use prost::Message;

use super::*;

mod arbitrary;
mod examples;
mod sessions;

/// The bytes of every example, in hex. A change of this file is a change of what proxies and
/// control planes of different builds say to each other, and of every version.
/// `UPDATE=1 cargo test -p ironmesh-wire` writes it anew.
#[test]
fn encodings_stay_as_they_are() {
    let mut now = String::new();
    for (name, resource) in examples::resources() {
        let bytes = encode(&resource);
        let _ = writeln!(now, "{name}\n  {}\n  {}", Version::of(&bytes), hex(&bytes));
    }
    for key in examples::keys() {
        let _ = writeln!(now, "key {key}\n  {}", hex(&key_bytes(&key)));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/encodings.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (line, (was, is)) in golden.lines().zip(now.lines()).enumerate() {
        assert_eq!(was, is, "line {} of {}", line + 1, path.display());
    }
    assert_eq!(golden.lines().count(), now.lines().count());
}

#[test]
fn examples_come_back_as_they_were() {
    for (name, resource) in examples::resources() {
        assert_eq!(decode(&encode(&resource)).as_ref(), Ok(&resource), "{name}");
    }
    for key in examples::keys() {
        assert_eq!(read_key(&key_bytes(&key)), Ok(key));
    }
}

#[test]
fn what_must_be_understood_and_is_not_is_refused() {
    let (_, resource) = examples::resources().swap_remove(0);
    let mut body = Body::of(&resource);
    body.must_understand = 0b100;
    let error = decode(&body.encode_to_vec()).unwrap_err();
    assert_eq!(error, DecodeError::MustUnderstand(0b100));
    assert!(error.to_string().contains("newer proxy"), "{error}");
}

#[test]
fn a_format_of_the_log_that_is_not_known_is_refused() {
    let mut message = ironmesh_model::settings::Settings::default().message();
    message.access_log_format = "%OF_THE_FUTURE%".to_owned();
    let body = Body { must_understand: 0, kind: Some(BodyKind::Settings(message)) };
    let error = decode(&body.encode_to_vec()).unwrap_err().to_string();
    assert_eq!(error, "accessLogFormat: there is no operator %OF_THE_FUTURE%");
}

#[test]
fn a_field_of_the_future_is_skipped() {
    for (name, resource) in examples::resources() {
        let mut bytes = encode(&resource).to_vec();
        // Field 100, length-delimited: "new".
        bytes.extend([0xa2, 0x06, 3]);
        bytes.extend(b"new");
        assert_eq!(decode(&bytes).as_ref(), Ok(&resource), "{name}");
    }
}

#[test]
fn a_choice_of_the_future_is_an_error_that_names_it() {
    let (_, resource) = examples::resources().remove(0);
    let Resource::Settings(settings) = &resource else { panic!("settings come first") };
    let mut message = settings.message();
    message.mtls_mode = 77;
    let body = Body { must_understand: 0, kind: Some(BodyKind::Settings(message)) };
    let error = decode(&body.encode_to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "mutual TLS mode 77 is not known");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_resource_comes_back_as_it_was(resource in arbitrary::resource()) {
        let bytes = encode(&resource);
        prop_assert_eq!(&encode(&resource), &bytes, "encoding is deterministic");
        let decoded = decode(&bytes).unwrap();
        prop_assert_eq!(&encode(&decoded), &bytes, "what was decoded has the same version");
        prop_assert_eq!(decoded, resource);
    }

    #[test]
    fn any_key_comes_back_as_it_was(key in arbitrary::key()) {
        prop_assert_eq!(read_key(&key_bytes(&key)), Ok(key));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        resource in arbitrary::resource(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&resource).to_vec();
        for (at, to) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
        }
        let _ = decode(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = decode(&bytes);
        let _ = read_key(&bytes);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key that an example stands under; kept so that all kinds are tried.
#[test]
fn examples_are_of_every_kind() {
    let kinds: std::collections::BTreeSet<_> =
        examples::keys().iter().map(ResourceKey::kind).collect();
    assert_eq!(kinds.len(), 9);
}
