//! What every request undergoes where a proxy takes it in, before a rule sees it: what its sender may
//! not say goes, and what each request of the mesh carries is added.

use crate::resource::ListenerKind;
use crate::retry::{ATTEMPT_COUNT, Asked};

/// The scheme of every request that a proxy can read but those whose TLS ends at a gateway: TLS of
/// applications stays closed to it.
pub const SCHEME: &str = "http";

/// The scheme of a request whose TLS ends at a gateway.
pub const SECURE_SCHEME: &str = "https";

/// Headers by which a trace is recognised; who sends one of them has begun it.
pub const TRACE_HEADERS: [&str; 3] = ["traceparent", "b3", "x-b3-traceid"];

/// Who sent a request, as far as the proxy that takes it knows.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The listener that it came in at.
    pub listener: ListenerKind,
    /// Whether it proved by mutual TLS that it is a member of the mesh.
    pub is_member: bool,
    /// The sender as headers tell it: of a member the element of `x-forwarded-client-cert`, of a
    /// stranger at a gateway the address.
    pub text: &'a str,
    /// Whether the request came by HTTPS that ended at this proxy.
    pub https: bool,
}

impl Sender<'_> {
    /// The scheme of what it sends.
    pub fn scheme(&self) -> &'static str {
        if self.https { SECURE_SCHEME } else { SCHEME }
    }

    /// Whether what it says about itself is believed: it is a member of the mesh, or the workload
    /// that the proxy serves.
    pub fn is_trusted(&self) -> bool {
        self.is_member || self.listener == ListenerKind::Outbound
    }
}

/// Headers that can be changed. Names are in lower case.
pub trait EntryHeaders {
    /// Drops the fields of whose names `keep` is not true.
    fn retain(&mut self, keep: impl FnMut(&[u8]) -> bool);

    /// Whether there is a field of this name.
    fn contains(&self, name: &str) -> bool;

    /// Adds a field.
    fn push(&mut self, name: &str, value: &str);

    /// Adds a value to the last field of this name, behind a comma; without one, adds a field.
    fn append(&mut self, name: &str, value: &str);
}

/// Changes the headers of a request that comes in. `request_id` makes one, `begin_trace` adds the
/// headers of a new trace; each is called if the request has none. Tells whether a header is left that
/// may say something to proxies (see [`crate::retry::Asked`]).
pub fn at_entry<H: EntryHeaders>(
    headers: &mut H,
    sender: &Sender<'_>,
    request_id: impl FnOnce() -> String,
    begin_trace: impl FnOnce(&mut H),
) -> bool {
    let trusted = sender.is_trusted();
    let at_edge = sender.listener == ListenerKind::Gateway && !sender.is_member;
    let mut asks = false;
    headers.retain(|name| {
        let kept = may_come_in(name, sender.listener, trusted, at_edge);
        asks |= kept && Asked::takes(name);
        kept
    });
    if at_edge {
        headers.append("x-forwarded-for", sender.text);
    }
    if !headers.contains("x-forwarded-proto") {
        headers.push("x-forwarded-proto", sender.scheme());
    }
    if sender.listener == ListenerKind::Inbound && sender.is_member {
        headers.push("x-forwarded-client-cert", sender.text);
    }
    if !headers.contains("x-request-id") {
        headers.push("x-request-id", &request_id());
    }
    if !TRACE_HEADERS.iter().any(|name| headers.contains(name)) {
        begin_trace(headers);
    }
    asks
}

/// Whether a sender may say this about a request.
fn may_come_in(name: &[u8], listener: ListenerKind, trusted: bool, at_edge: bool) -> bool {
    if name.first() != Some(&b'x') {
        return true;
    }
    let at_edge_only: [&[u8]; 2] = [b"x-request-id", b"x-forwarded-proto"];
    !(name.starts_with(b"x-ironmesh-")
        || name == b"x-forwarded-client-cert"
        || (!trusted && name.starts_with(b"x-envoy-"))
        // Who counts attempts says so itself, whatever an application copies from another request.
        || (listener != ListenerKind::Inbound && name == ATTEMPT_COUNT.as_bytes())
        || (at_edge && at_edge_only.contains(&name)))
}

/// A list of headers, for `explain`.
impl EntryHeaders for Vec<(String, String)> {
    fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        Self::retain(self, |(name, _)| keep(name.as_bytes()));
    }

    fn contains(&self, name: &str) -> bool {
        self.iter().any(|(own, _)| own == name)
    }

    fn push(&mut self, name: &str, value: &str) {
        Self::push(self, (name.to_owned(), value.to_owned()));
    }

    fn append(&mut self, name: &str, value: &str) {
        match self.iter_mut().rfind(|(own, _)| own == name) {
            Some((_, last)) => {
                last.push(',');
                last.push_str(value);
            }
            None => EntryHeaders::push(self, name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(listener: ListenerKind, member: bool, headers: &[(&str, &str)]) -> Vec<String> {
        let text = if member { "URI=spiffe://cluster.local/ns/a/sa/b" } else { "203.0.113.7" };
        let sender = Sender { listener, is_member: member, text, https: false };
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let begin = |headers: &mut Vec<(String, String)>| {
            EntryHeaders::push(headers, "traceparent", "new");
        };
        at_entry(&mut all, &sender, || "made".to_owned(), begin);
        all.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    const SAID: &[(&str, &str)] = &[
        ("x-ironmesh-reason", "route"),
        ("x-envoy-x", "1"),
        ("x-forwarded-client-cert", "By=me"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "mine"),
        ("b3", "0"),
    ];

    #[test]
    fn a_stranger_at_the_edge_says_nothing_about_the_mesh() {
        assert_eq!(
            entered(ListenerKind::Gateway, false, SAID),
            [
                "x-forwarded-for: 10.0.0.1,203.0.113.7",
                "b3: 0",
                "x-forwarded-proto: http",
                "x-request-id: made",
            ]
        );
    }

    #[test]
    fn a_member_is_believed_but_for_who_it_is() {
        assert_eq!(
            entered(ListenerKind::Inbound, true, SAID),
            [
                "x-envoy-x: 1",
                "x-forwarded-for: 10.0.0.1",
                "x-forwarded-proto: https",
                "x-request-id: mine",
                "b3: 0",
                "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/a/sa/b",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_made() {
        assert_eq!(
            entered(ListenerKind::Outbound, false, &[("x-envoy-x", "1")]),
            ["x-envoy-x: 1", "x-forwarded-proto: http", "x-request-id: made", "traceparent: new"]
        );
        let plain = entered(ListenerKind::Inbound, false, &[("x-envoy-x", "1")]);
        assert!(!plain.iter().any(|header| header.starts_with("x-envoy")), "{plain:?}");
        assert!(!plain.iter().any(|header| header.starts_with("x-forwarded-client")), "{plain:?}");
        // Attempts are counted by the proxies of those who send.
        let count = [(ATTEMPT_COUNT, "7")];
        let sent = entered(ListenerKind::Outbound, false, &count);
        assert!(!sent.iter().any(|header| header.starts_with(ATTEMPT_COUNT)), "{sent:?}");
        assert_eq!(entered(ListenerKind::Inbound, true, &count)[0], "x-envoy-attempt-count: 7");
        // A member at a gateway is one of the mesh, too.
        let member = entered(ListenerKind::Gateway, true, &[("x-request-id", "mine")]);
        assert_eq!(member[0], "x-request-id: mine");
        assert!(!member.iter().any(|header| header.starts_with("x-forwarded-for")), "{member:?}");
    }
}
