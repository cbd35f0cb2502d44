//! Heads between the codecs and the common message.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use ironmesh_model::{HeaderLookup, Reason};

use crate::http1::{
    Framing, RequestTraits, ResponseTraits, is_authority, is_path, remove_hop_by_hop,
};
use crate::message::{Fields, RequestHead, ResponseHead, Version};

/// What a request of HTTP/1 asks of the connection, taken out of its fields.
#[derive(Debug, Default)]
pub(crate) struct OfConnection {
    /// Protocols to which the sender wants to switch, or has switched.
    pub(crate) upgrade: Option<String>,
}

/// Removes what concerns only the client's connection.
pub(crate) fn take_request_traits(traits: &RequestTraits, fields: &mut Fields) -> OfConnection {
    if !traits.hop_by_hop {
        return OfConnection::default();
    }
    let upgrade = traits.upgrade.then(|| upgrade_of(fields)).flatten();
    remove_hop_by_hop(fields);
    if traits.accepts_trailers {
        fields.push(b"te", b"trailers");
    }
    OfConnection { upgrade }
}

/// Removes what concerns only the endpoint's connection.
pub(crate) fn take_response_traits(traits: &ResponseTraits, fields: &mut Fields) -> OfConnection {
    if !traits.hop_by_hop {
        return OfConnection::default();
    }
    let upgrade = (traits.framing == Framing::Tunnel).then(|| upgrade_of(fields)).flatten();
    remove_hop_by_hop(fields);
    OfConnection { upgrade }
}

fn upgrade_of(fields: &Fields) -> Option<String> {
    Some(fields.value("upgrade")?.into_owned())
}

/// States in the fields what an HTTP/1 peer must know: how the body is framed, and to which
/// protocols to switch. HTTP/2 leaves it out again.
pub(crate) fn state_for_http1(fields: &mut Fields, framing: Framing, upgrade: Option<&str>) {
    if framing == Framing::Chunked {
        framing.state(fields);
    }
    if let Some(protocols) = upgrade {
        fields.push(b"connection", b"upgrade");
        fields.push(b"upgrade", protocols.as_bytes());
    }
    if fields.contains("te") {
        // RFC 9110, section 10.1.4.
        fields.push(b"connection", b"te");
    }
}

/// Takes over a request of HTTP/2.
///
/// # Errors
///
/// The reason to refuse it: it lacks what HTTP/1 needs to say it, has too many fields, or is a
/// CONNECT.
pub(crate) fn request_from_http2(
    from: &http::request::Parts,
    header_count_max: usize,
    to: &mut RequestHead,
) -> Result<(), Reason> {
    to.clear();
    to.version = Version::Http2;
    to.set_method(from.method.as_str());
    if from.method == Method::CONNECT {
        return Err(Reason::UnsupportedForm);
    }
    let target = from.uri.path_and_query().ok_or(Reason::BadRequest)?.as_str();
    if !is_path(to.method(), target) {
        return Err(Reason::BadRequest);
    }
    to.set_target(target);
    if from.headers.len() > header_count_max {
        return Err(Reason::HeadTooLarge);
    }
    let host = || from.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = from.uri.authority().map(Authority::as_str).or_else(host).unwrap_or_default();
    if !authority.is_empty() && !is_authority(authority.as_bytes()) {
        return Err(Reason::BadRequest);
    }
    to.set_authority(authority);
    take_map(&from.headers, &mut to.fields);
    to.fields.remove("host");
    Ok(())
}

/// Takes over a response of HTTP/2; `None` if it has too many fields.
pub(crate) fn response_from_http2(
    from: &http::response::Parts,
    ended: bool,
    header_count_max: usize,
    to: &mut ResponseHead,
) -> Option<Framing> {
    if from.headers.len() > header_count_max {
        return None;
    }
    to.clear();
    to.version = Version::Http2;
    to.status = from.status.as_u16();
    take_map(&from.headers, &mut to.fields);
    Some(framing_of_http2(&from.headers, ended))
}

/// How long a body of HTTP/2 is.
pub(crate) fn framing_of_http2(headers: &HeaderMap, ended: bool) -> Framing {
    let length = || headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    if ended { Framing::None } else { length().map_or(Framing::Chunked, Framing::Length) }
}

/// Copies fields. Those that HTTP/2 forbids do not come: the `h2` crate refuses them.
pub(crate) fn take_map(from: &HeaderMap, to: &mut Fields) {
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in from {
        if name == http::header::COOKIE {
            // RFC 9113, section 8.2.3: joined before anyone looks at them as one field.
            cookies.push(value.as_bytes());
        } else if name == http::header::CONTENT_LENGTH && to.contains("content-length") {
            // The same again, which HTTP/2 lets pass and HTTP/1 does not: `h2` refuses others.
        } else {
            to.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if !cookies.is_empty() {
        to.push(b"cookie", &cookies.join(&b"; "[..]));
    }
}

/// The request as HTTP/2 has it; `None` if it has something that HTTP/2 cannot say.
pub(crate) fn request_to_http2(head: &RequestHead, tls: bool) -> Option<http::Request<()>> {
    let mut uri = http::uri::Parts::default();
    let https = tls || head.scheme() == "https";
    uri.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(head.authority().parse().ok()?);
    uri.path_and_query = Some(PathAndQuery::try_from(head.target()).ok()?);
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(head.method().as_bytes()).ok()?;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    give_map(&head.fields, request.headers_mut());
    Some(request)
}

/// The response as HTTP/2 has it; `None` if its status is none.
pub(crate) fn response_to_http2(head: &ResponseHead) -> Option<http::Response<()>> {
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    *response.version_mut() = http::Version::HTTP_2;
    give_map(&head.fields, response.headers_mut());
    Some(response)
}

/// Copies fields but for those that concern HTTP/1 connections (RFC 9113, section 8.2.2).
pub(crate) fn give_map(from: &Fields, to: &mut HeaderMap) {
    to.reserve(from.len());
    for (name, value) in from.iter() {
        let of_http1 =
            matches!(name, b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive");
        if let (false, Ok(name), Ok(value)) =
            (of_http1, HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            to.append(name, value);
        }
    }
}
