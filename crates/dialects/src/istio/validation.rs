//! What Istio's validation refuses at admission, and the translation could do something with.
//!
//! The checks look at the object as it was sent, not at what was made of it: from sources without
//! admission a fault is a finding and at most its rule is dead. They say what Istio's own code says
//! (`pkg/config/validation`), of which the test `admission` has the outcomes.

use ironmesh_model::settings::parse_duration;
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{Finding, FindingCode, Severity};
use serde_json::Value;

use crate::Object;
use crate::path::{field, item};
use crate::schema::DID_YOU_MEAN;

mod destination_rule;
mod gateway;
mod peer_authentication;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload;

/// Adds what is refused in an object of Istio's kinds, where it is not reported yet.
pub(crate) fn refusals(object: &Object, findings: &mut Vec<Finding>) {
    let spec = &object.value()["spec"];
    let mut check = Check { object, found: Vec::new() };
    if !GROUPS.contains(&object.group()) {
        return;
    }
    match (object.group(), object.kind()) {
        ("networking.istio.io", "VirtualService") => check.virtual_service(spec),
        ("networking.istio.io", "DestinationRule") => check.destination_rule(spec),
        ("networking.istio.io", "Gateway") => check.gateway(spec),
        ("networking.istio.io", "ServiceEntry") => check.service_entry(spec),
        ("networking.istio.io", "Sidecar") => check.sidecar(spec),
        ("networking.istio.io", "WorkloadEntry") => check.workload_entry(spec),
        ("networking.istio.io", "WorkloadGroup") => check.workload_group(spec),
        ("networking.istio.io", "ProxyConfig") => check.proxy_config(spec),
        ("security.istio.io", "PeerAuthentication") => check.peer_authentication(spec),
        _ => {}
    }
    // What looks like another field is no wish for nothing.
    for finding in findings.iter_mut() {
        if finding.code == FindingCode::UnknownField && finding.message.contains(DID_YOU_MEAN) {
            finding.code = FindingCode::Invalid;
        }
    }
    for found in check.found {
        let is_known = |known: &Finding| {
            known.code.severity() == Severity::Error && known.path.starts_with(&found.path)
        };
        if !findings.iter().any(is_known) {
            // What is refused need not be said to do nothing, too.
            findings.retain(|known| known.path != found.path);
            findings.push(found);
        }
    }
}

/// Groups of the kinds that say what the mesh does with traffic.
const GROUPS: [&str; 6] = [
    "networking.istio.io",
    "security.istio.io",
    "config.istio.io",
    "authentication.istio.io",
    "split.smi-spec.io",
    "specs.smi-spec.io",
];

/// The faults of one object.
struct Check<'a> {
    object: &'a Object,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn refuse(&mut self, path: &str, message: impl Into<String>) {
        self.found.push(Finding::new(self.object.id(), path, FindingCode::Invalid, message));
    }

    /// A host: a name, or with `*` for its first label or the beginning of that.
    fn host(&mut self, given: &str, path: &str) {
        if given.parse::<std::net::IpAddr>().is_err() && !is_domain(given) {
            self.refuse(path, format!("{given:?} is no host"));
        }
    }

    /// The name of a Gateway: NAME, NAMESPACE/NAME, or as Istio up to 1.0 had it, the host of its service.
    fn gateway_name(&mut self, given: &str, path: &str) {
        let is_one = match given.split_once('/') {
            None => is_full_name(given),
            Some((namespace, name)) => is_label(namespace) && is_label(name),
        };
        if !is_one {
            self.refuse(path, format!("{given:?} names no Gateway: NAME or NAMESPACE/NAME"));
        }
    }

    /// `exportTo`, which of a ServiceEntry may be `~` alone.
    fn export_to(&mut self, given: &Value) {
        let given = texts(given);
        let own = self.object.namespace().clone();
        let full =
            |namespace: &str| if namespace == "." { own.to_string() } else { namespace.into() };
        let is_public = given.contains(&"*");
        let may_hide = self.object.kind() == "ServiceEntry" && given.len() == 1;
        for (at, namespace) in given.iter().enumerate() {
            let why = match *namespace {
                "~" if may_hide => continue,
                "~" => "~ is for a Sidecar's hosts, and alone for a ServiceEntry",
                _ if is_public && given.len() > 1 => "* is all namespaces and stands alone",
                one if given[..at].iter().any(|other| full(other) == full(one)) => {
                    "this is listed twice"
                }
                "." | "*" => continue,
                name if is_label(name) => continue,
                _ => "this takes . or * or the name of a namespace",
            };
            self.refuse(&item("spec.exportTo", at), why);
        }
    }

    /// A time of whole milliseconds, one or more, if there is one.
    fn duration(&mut self, of: &Value, name: &str, path: &str) {
        let Some(given) = at(of, name).as_str().and_then(parse_duration) else { return };
        if given.as_millis() == 0 {
            self.refuse(&field(path, name), "this takes a millisecond or more");
        } else if given.subsec_nanos() % 1_000_000 != 0 {
            self.refuse(&field(path, name), "this takes whole milliseconds");
        }
    }

    /// A number that is not below zero, if there is one.
    fn not_negative(&mut self, of: &Value, name: &str, path: &str) {
        if at(of, name).as_i64().is_some_and(|given| given < 0) {
            self.refuse(&field(path, name), "this takes 0 or more");
        }
    }

    /// A share from 0 to 100, if there is one.
    fn percent(&mut self, of: &Value, name: &str, path: &str) {
        if at(of, name).as_i64().is_some_and(|given| !(0..=100).contains(&given)) {
            self.refuse(&field(path, name), "this takes a share from 0 to 100 percent");
        }
    }

    /// Labels of workloads.
    fn labels(&mut self, given: &Value, path: &str) {
        for (name, value) in given.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if !is_label_name(name) {
                self.refuse(&field(path, name), format!("{name:?} is no name of a label"));
            } else if !is_label_value(value) {
                self.refuse(&field(path, name), format!("{value:?} is no value of a label"));
            }
        }
    }

    /// The labels of a selector, by the name that they have there.
    fn selector(&mut self, given: &Value, labels: &str, path: &str) {
        let path = field(path, labels);
        for (name, value) in at(given, labels).as_object().into_iter().flatten() {
            if name.is_empty() {
                self.refuse(&path, "a label has a name");
            } else if name.contains('*') || value.as_str().is_some_and(|value| value.contains('*'))
            {
                self.refuse(&field(&path, name), "* stands for nothing in a selector");
            } else if value.as_str().is_some_and(|value| value.len() > 63) {
                self.refuse(&field(&path, name), "the value of a label has at most 63 letters");
            }
        }
    }

    /// A port.
    fn port(&mut self, of: &Value, name: &str, path: &str) {
        let given = at(of, name);
        if !given.as_i64().is_some_and(|port| (1..=65_535).contains(&port)) {
            self.refuse(&field(path, name), "a port is from 1 to 65535");
        }
    }

    /// A protocol's name, if one is given.
    fn protocol(&mut self, of: &Value, path: &str) {
        let given = at(of, "protocol").as_str().unwrap_or_default();
        let is_known = PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(given));
        if !given.is_empty() && !is_known {
            let message = format!("{given:?} is no protocol: {}", PROTOCOLS.join(", "));
            self.refuse(&field(path, "protocol"), message);
        }
    }

    /// The path of a unix socket, or the name of an abstract one.
    fn unix_socket(&mut self, given: &str, path: &str) {
        let socket = given.strip_prefix(UNIX).unwrap_or(given);
        let is_file = socket.starts_with('/') && !socket.ends_with('/');
        if !socket.starts_with('@') && !is_file {
            self.refuse(path, format!("{given:?} is not unix:// and the path of a file"));
        }
    }

    /// An address to listen at, if one is given.
    fn bind(&mut self, of: &Value, path: &str) {
        let given = at(of, "bind").as_str().unwrap_or_default();
        if !given.is_empty() && given.parse::<std::net::IpAddr>().is_err() {
            self.refuse(&field(path, "bind"), format!("{given:?} is no IP address"));
        }
    }

    /// A condition on a text. An empty prefix is refused: it would match every text.
    fn text_match(&mut self, given: &Value, path: &str) {
        if given["prefix"].as_str() == Some("") {
            let message = "every text begins with an empty prefix; leave the condition out";
            self.refuse(&field(path, "prefix"), message);
        }
        self.regex(given, path);
    }

    /// Expressions, of which none is empty or of another syntax than RE2's.
    fn regex(&mut self, given: &Value, path: &str) {
        let Some(regex) = given["regex"].as_str() else { return };
        let path = field(path, "regex");
        if regex.is_empty() {
            self.refuse(&path, "an empty expression matches nothing but an empty text; use exact");
        } else if let Err(bad) = TextMatch::Regex(regex.into()).compile() {
            self.refuse(&path, bad.to_string());
        }
    }
}

/// What Istio takes for a protocol (`protocol.Parse`).
const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTP2",
    "HTTPS",
    "HTTP_PROXY",
    "GRPC",
    "GRPC-Web",
    "TCP",
    "TLS",
    "MONGO",
    "MYSQL",
    "REDIS",
    "UDP",
];

/// How the address of a unix socket begins.
const UNIX: &str = "unix://";

fn is_one_of(words: &[&str], of: &Value, name: &str) -> bool {
    let given = at(of, name).as_str().unwrap_or_default();
    words.iter().any(|word| word.eq_ignore_ascii_case(given))
}

/// Whether a port's protocol is HTTP, in the clear.
fn is_http(port: &Value) -> bool {
    is_one_of(&["HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-Web"], port, "protocol")
}

/// Whether a port's protocol is TLS.
fn is_tls(port: &Value) -> bool {
    is_one_of(&["HTTPS", "TLS"], port, "protocol")
}

/// A field by its name in camel case, which protobuf's JSON takes in snake case, too; null if absent.
fn at<'v>(of: &'v Value, name: &str) -> &'v Value {
    if of.get(name).is_some() {
        return &of[name];
    }
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    &of[snake.as_str()]
}

/// The items of a list, each with its path.
fn items<'v>(of: &'v Value, name: &str, path: &str) -> Vec<(&'v Value, String)> {
    let list = at(of, name).as_array().map_or(&[][..], Vec::as_slice);
    let path = field(path, name);
    list.iter().enumerate().map(|(at, value)| (value, item(&path, at))).collect()
}

/// A text; empty if there is none.
fn text<'v>(of: &'v Value, name: &str) -> &'v str {
    at(of, name).as_str().unwrap_or_default()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a field is there and says something.
fn is_given(of: &Value, name: &str) -> bool {
    !at(of, name).is_null()
}

/// A label of a name, letter case aside (RFC 1123, section 2.1).
fn is_label(text: &str) -> bool {
    let ends_well = |text: &str| !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && ends_well(text)
}

/// A name of labels (`ValidateFQDN`).
fn is_full_name(text: &str) -> bool {
    !text.starts_with('*') && is_domain(text) && !ends_in_digits(text)
}

/// Whether the last label is a number, as that of an address is, and no domain's.
fn ends_in_digits(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name of labels, of which the first may be or begin with `*`.
fn is_domain(text: &str) -> bool {
    let text = text.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(text);
    let (first, rest) =
        text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)));
    let first = match first.strip_prefix('*') {
        Some("") => Some("x"),
        Some(behind) => Some(behind.strip_prefix('-').unwrap_or(behind)),
        None => Some(first),
    };
    text.len() <= 255
        && first.is_some_and(is_label)
        && rest.is_none_or(|rest| rest.split('.').all(is_label) && !ends_in_digits(rest))
}

/// A name of a header (RFC 9110, section 5.6.2), as far as Kubernetes takes it for a probe.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The name of a label of Kubernetes: `NAME` or `DOMAIN/NAME`.
fn is_label_name(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((domain, name)) => {
            if !domain.split('.').all(is_label) {
                return false;
            }
            name
        }
        None => text,
    };
    (1..=63).contains(&name.len()) && is_label_value(name)
}

/// The value of a label, of whatever length: Istio sets no bound.
fn is_label_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let outer = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner) && outer(bytes.first()) && outer(bytes.last())
}
