//! What every request undergoes where a proxy takes it in, before a rule sees it: what its sender may
//! not say goes, and what each request of the mesh carries is added.

use std::net::IpAddr;

use crate::request::HeaderLookup;
use crate::resource::ListenerKind;
use crate::retry::{ATTEMPT_COUNT, Asked};
use crate::topology::{ForwardClientCert, Topology, trusted_client};

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
    /// Its address, as headers tell it; used at gateways alone.
    pub address: &'a str,
    /// The certificate that it showed, as an element of `x-forwarded-client-cert`; empty: none.
    pub certificate: &'a str,
    /// What a gateway believes of what stands in front of it.
    pub topology: Topology,
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

    /// What becomes of `x-forwarded-client-cert`. What proxies of the mesh have said of clients of
    /// gateways is kept where they call; applications say nothing.
    fn client_cert(&self) -> ForwardClientCert {
        match self.listener {
            ListenerKind::Gateway => self.topology.client_cert,
            ListenerKind::Inbound => ForwardClientCert::AppendForward,
            ListenerKind::Outbound => ForwardClientCert::Sanitize,
        }
    }
}

/// Headers that can be changed. Names are in lower case.
pub trait EntryHeaders: HeaderLookup {
    /// Drops the fields of whose names `keep` is not true.
    fn retain(&mut self, keep: impl FnMut(&[u8]) -> bool);

    /// Whether there is a field of this name.
    fn contains(&self, name: &str) -> bool;

    /// Adds a field.
    fn push(&mut self, name: &str, value: &str);

    /// Adds a value to the last field of this name, behind a comma; without one, adds a field.
    fn append(&mut self, name: &str, value: &str);
}

/// What is found out about a request where it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Whether a header is left that may say something to proxies (see [`crate::retry::Asked`]).
    pub asks: bool,
    /// The client, where trusted proxies in front of a gateway name another than who connects.
    pub client: Option<IpAddr>,
    /// Whether such a proxy was sent it by HTTPS.
    pub https: bool,
}

/// Changes the headers of a request that comes in. `request_id` makes one, `begin_trace` adds the
/// headers of a new trace; each is called if the request has none.
pub fn at_entry<H: EntryHeaders>(
    headers: &mut H,
    sender: &Sender<'_>,
    request_id: impl FnOnce() -> String,
    begin_trace: impl FnOnce(&mut H),
) -> Entered {
    let trusted = sender.is_trusted();
    let at_edge = sender.listener == ListenerKind::Gateway && !sender.is_member;
    let proved = !sender.certificate.is_empty();
    let client_cert = sender.client_cert();
    let said = MaySay {
        listener: sender.listener,
        trusted,
        at_edge,
        names_scheme: !at_edge || sender.topology.trusted_proxies > 0,
        names_certificate: client_cert.keeps(proved),
    };
    let mut asks = false;
    headers.retain(|name| {
        let kept = said.may_come_in(name);
        asks |= kept && Asked::takes(name);
        kept
    });
    let (mut client, mut https) = (None, false);
    if at_edge {
        if sender.topology.trusted_proxies > 0 {
            https = came_by_https(headers);
            let named = headers.value("x-forwarded-for");
            client = named.and_then(|text| trusted_client(&text, sender.topology.trusted_proxies));
        }
        headers.append("x-forwarded-for", sender.address);
        match client {
            Some(client) => headers.push(EXTERNAL_ADDRESS, &client.to_string()),
            None => headers.push(EXTERNAL_ADDRESS, sender.address),
        }
    }
    if !headers.contains("x-forwarded-proto") {
        headers.push("x-forwarded-proto", sender.scheme());
    }
    if proved && client_cert.tells() {
        headers.append(CLIENT_CERT, sender.certificate);
    }
    if !headers.contains("x-request-id") {
        headers.push("x-request-id", &request_id());
    }
    if !TRACE_HEADERS.iter().any(|name| headers.contains(name)) {
        begin_trace(headers);
    }
    Entered { asks, client, https }
}

/// Whether a request came by HTTPS to the mesh, or to a trusted proxy in front of it: of others the header
/// does not come in.
pub(crate) fn came_by_https(headers: &(impl HeaderLookup + ?Sized)) -> bool {
    headers.value("x-forwarded-proto").is_some_and(|scheme| scheme == SECURE_SCHEME)
}

/// What a sender may say about a request.
struct MaySay {
    listener: ListenerKind,
    trusted: bool,
    at_edge: bool,
    names_scheme: bool,
    names_certificate: bool,
}

impl MaySay {
    fn may_come_in(&self, name: &[u8]) -> bool {
        if name.first() != Some(&b'x') {
            return true;
        }
        !(name.starts_with(b"x-ironmesh-")
            || (!self.names_certificate && name == CLIENT_CERT.as_bytes())
            || (!self.trusted && name.starts_with(b"x-envoy-"))
            // Who counts attempts says so itself, whatever an application copies from another request.
            || (self.listener != ListenerKind::Inbound && name == ATTEMPT_COUNT.as_bytes())
            || (self.at_edge && name == b"x-request-id")
            || (!self.names_scheme && name == b"x-forwarded-proto"))
    }
}

/// Who showed which certificate, an element for each proxy on the way that was shown one.
const CLIENT_CERT: &str = "x-forwarded-client-cert";
/// The client outside from whom a request came to the mesh.
const EXTERNAL_ADDRESS: &str = "x-envoy-external-address";

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
        let certificate = if member { MEMBER } else { "" };
        let topology = Topology::default();
        let is_member = member;
        let address = "203.0.113.7";
        enter(
            &Sender { listener, is_member, address, certificate, topology, https: false },
            headers,
        )
        .0
    }

    fn enter(sender: &Sender<'_>, headers: &[(&str, &str)]) -> (Vec<String>, Option<IpAddr>) {
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let begin = |headers: &mut Vec<(String, String)>| {
            EntryHeaders::push(headers, "traceparent", "new");
        };
        let entered = at_entry(&mut all, sender, || "made".to_owned(), begin);
        let shown = all.into_iter().map(|(name, value)| format!("{name}: {value}"));
        (shown.collect(), entered.client)
    }

    const MEMBER: &str = "URI=spiffe://cluster.local/ns/a/sa/b";

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
                "x-envoy-external-address: 203.0.113.7",
                "x-forwarded-proto: http",
                "x-request-id: made",
            ]
        );
    }

    #[test]
    fn a_member_is_believed_and_says_who_it_is_last() {
        assert_eq!(
            entered(ListenerKind::Inbound, true, SAID),
            [
                "x-envoy-x: 1",
                "x-forwarded-client-cert: By=me,URI=spiffe://cluster.local/ns/a/sa/b",
                "x-forwarded-for: 10.0.0.1",
                "x-forwarded-proto: https",
                "x-request-id: mine",
                "b3: 0",
            ]
        );
        let own = entered(ListenerKind::Outbound, false, SAID);
        assert!(!own.iter().any(|header| header.contains("By=me")), "{own:?}");
        let plain = entered(ListenerKind::Inbound, false, SAID);
        assert!(!plain.iter().any(|header| header.contains("By=me")), "{plain:?}");
    }

    fn at_gateway(topology: Topology, certificate: &str, sent: &[(&str, &str)]) -> Vec<String> {
        let listener = ListenerKind::Gateway;
        let (address, is_member, https) = ("10.0.0.9", false, false);
        let sender = Sender { listener, is_member, address, certificate, topology, https };
        let (mut headers, client) = enter(&sender, sent);
        let external = client.map_or(address.to_owned(), |client| client.to_string());
        assert!(headers.contains(&format!("x-envoy-external-address: {external}")), "{headers:?}");
        headers.retain(|header| header.starts_with("x-forwarded-"));
        headers
    }

    #[test]
    fn trusted_proxies_in_front_of_a_gateway_say_who_the_client_is() {
        let behind = |trusted_proxies| Topology { trusted_proxies, ..Topology::default() };
        let external = |topology, sent: &[(&str, &str)]| {
            let listener = ListenerKind::Gateway;
            let address = "10.0.0.9";
            let (is_member, certificate, https) = (false, "", false);
            enter(&Sender { listener, is_member, address, certificate, topology, https }, sent).1
        };
        let sent = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(external(behind(0), &sent), None);
        assert_eq!(external(behind(1), &sent), "203.0.113.7".parse().ok());
        assert_eq!(external(behind(2), &sent), "6.6.6.6".parse().ok());
        assert_eq!(external(behind(3), &sent), None, "it names fewer");
        assert_eq!(external(behind(1), &[]), None);
        let said = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")];
        let believed = at_gateway(behind(1), "", &said);
        assert_eq!(believed, ["x-forwarded-for: 203.0.113.7,10.0.0.9", "x-forwarded-proto: https"]);
        assert!(at_gateway(behind(0), "", &said).contains(&"x-forwarded-proto: http".to_owned()));
    }

    #[test]
    fn what_becomes_of_certificates_at_a_gateway_is_as_its_topology_says() {
        let cert = |client_cert, certificate: &str| {
            let topology = Topology { client_cert, ..Topology::default() };
            let headers = at_gateway(topology, certificate, &[(CLIENT_CERT, "Hash=forged")]);
            let own = headers.iter().find_map(|header| header.strip_prefix(CLIENT_CERT));
            own.map(|own| own.trim_start_matches(": ").to_owned())
        };
        use ForwardClientCert as F;
        for (how, plain, mutual) in [
            (F::Sanitize, None, None),
            (F::ForwardOnly, None, Some("Hash=forged")),
            (F::AppendForward, None, Some("Hash=forged,Hash=own")),
            (F::SanitizeSet, None, Some("Hash=own")),
            (F::AlwaysForwardOnly, Some("Hash=forged"), Some("Hash=forged")),
        ] {
            assert_eq!(cert(how, "").as_deref(), plain, "{how}");
            assert_eq!(cert(how, "Hash=own").as_deref(), mutual, "{how}");
        }
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
