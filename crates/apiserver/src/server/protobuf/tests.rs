use serde_json::json;

use super::*;

/// A field of bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A field of a number below 128.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC, &bytes(1, &meta), &bytes(2, raw), &bytes(3, b""), &bytes(4, b"")].concat()
}

/// As a client sends it that sets nothing but the name: fields that are not set are there as zeros.
fn metadata(name: &str) -> Vec<u8> {
    let all = [
        bytes(1, name.as_bytes()),
        bytes(2, b""),
        bytes(3, b""),
        bytes(5, b""),
        bytes(6, b""),
        number(7, 0),
        bytes(8, b""),
    ];
    bytes(1, &all.concat())
}

#[test]
fn objects_are_read_as_the_json_that_they_stand_for() {
    let namespace = [metadata("shop"), bytes(2, b""), bytes(3, &bytes(1, b""))].concat();
    assert_eq!(
        read(&body("v1", "Namespace", &namespace)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    );
    let data = [bytes(1, b"key"), bytes(2, b"value")].concat();
    let secret = [metadata("s"), bytes(2, &data), bytes(3, b"Opaque"), number(5, 0)].concat();
    assert_eq!(
        read(&body("v1", "Secret", &secret)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"key": "dmFsdWU="}, "type": "Opaque", "immutable": false,
        })
    );
    // What stands in a message of its own in protobuf and not in JSON: the source of a volume.
    let source = bytes(2, &bytes(2, b""));
    let volume = [bytes(1, b"tmp"), source].concat();
    let path = bytes(1, b"/");
    let port = [number(1, 0), number(2, 80), bytes(3, b"")].concat();
    let get = bytes(2, &[path, bytes(2, &port)].concat());
    let probe = [bytes(1, &get), number(2, 0), number(3, 5)].concat();
    let container = [bytes(1, b"c"), bytes(2, b"i"), bytes(10, &probe)].concat();
    let spec = [bytes(1, &volume), bytes(2, &container), number(11, 0)].concat();
    let pod = [metadata("p"), bytes(2, &spec)].concat();
    assert_eq!(
        read(&body("v1", "Pod", &pod)).unwrap()["spec"],
        json!({
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [{
                "name": "c", "image": "i",
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}, "timeoutSeconds": 5},
            }],
        })
    );
}

#[test]
fn a_lease_has_times_to_the_microsecond() {
    let renewed = bytes(4, &[number(1, 60), vec![2 << 3, 0xe8, 0x07]].concat());
    let spec = [bytes(1, b"a"), number(2, 15), renewed, number(5, 0)].concat();
    let lease = [metadata("leader"), bytes(2, &spec)].concat();
    assert_eq!(
        read(&body("coordination.k8s.io/v1", "Lease", &lease)).unwrap()["spec"],
        json!({
            "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "renewTime": "1970-01-01T00:01:00.000001Z",
        })
    );
}

#[test]
fn options_have_the_version_of_what_they_are_sent_to() {
    let options = [number(1, 0), bytes(4, b"Background"), bytes(5, b"All")].concat();
    for version in ["v1", "apps/v1", "meta.k8s.io/v1"] {
        let read = read(&body(version, "DeleteOptions", &options)).unwrap();
        assert_eq!(read["gracePeriodSeconds"], 0);
        assert_eq!(read["propagationPolicy"], "Background");
        assert_eq!(read["dryRun"], json!(["All"]));
    }
    let attributes = [bytes(1, b"shop"), bytes(2, b"get"), bytes(5, b"pods")].concat();
    let spec = bytes(2, &bytes(1, &attributes));
    let review = read(&body("authorization.k8s.io/v1", "SelfSubjectAccessReview", &spec)).unwrap();
    let attributes = &review["spec"]["resourceAttributes"];
    assert_eq!(attributes, &json!({"namespace": "shop", "verb": "get", "resource": "pods"}));
}

#[test]
fn times_and_numbers() {
    let seconds = [0x08, 0x80, 0xd8, 0xf9, 0xcb, 0x06];
    assert_eq!(time(&seconds, false), Ok(json!("2026-01-31T20:54:24Z")));
    assert_eq!(time(&[], false), Ok(Value::Null));
    assert_eq!(number_or_text(&[&number(1, 1)[..], &bytes(3, b"web")].concat()), Ok(json!("web")));
    assert_eq!(quantity(&bytes(1, b"100Mi")), Ok(json!("100Mi")));
    let minus_one = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(
        fields(&minus_one).next().unwrap().map(|(_, wire)| wire),
        Ok(Wire::Number(u64::MAX))
    );
}

#[test]
fn hostile_bytes_are_refused_and_never_a_panic() {
    let whole = {
        let container = [bytes(1, b"c"), bytes(2, b"i")].concat();
        let spec = bytes(2, &container);
        body("v1", "Pod", &[metadata("p"), bytes(2, &spec)].concat())
    };
    assert!(read(&whole).is_ok());
    for at in 0..whole.len() {
        // A shorter one may be one, too, but for its head.
        let _ = read(&whole[..at]);
        for change in [0x01, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= change;
            let _ = read(&changed);
        }
    }
    for hostile in [
        b"".to_vec(),
        b"{}".to_vec(),
        MAGIC.to_vec(),
        [MAGIC, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]].concat(),
        body("v1", "Nothing", b""),
        body("v1", "Pod", &[0x0b]),
        body("v1", "Pod", &number(1, 1)),
        body("v1", "Pod", &bytes(1, &bytes(1, &[0xff]))),
    ] {
        assert_eq!(read(&hostile).unwrap_err().code, 400, "{hostile:?}");
    }
    // A message within itself, again and again.
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        nested = bytes(1, &nested);
    }
    let schema = body("meta/v1", "Status", &nested);
    let _ = read(&schema);
}

#[test]
fn every_line_of_the_table_can_be_read_and_names_what_there_is() {
    for line in MESSAGES.lines() {
        let (name, _) = line.split_once(' ').unwrap_or((line, ""));
        let Some(message) = Message::of(name) else {
            assert!(!line.contains(' '), "{line}");
            continue;
        };
        for field in message.fields.split(' ').filter(|field| !field.is_empty()) {
            let number: u32 = field.split(':').next().unwrap().parse().unwrap();
            let field = message.field(number).unwrap();
            let is_simple = field.kind.len() == 1;
            assert!(is_simple || message.message(field.kind).is_ok(), "{name}: {field:?}");
            assert_eq!(field.name.is_empty(), field.shape == Shape::Inline, "{name}: {field:?}");
        }
    }
}
