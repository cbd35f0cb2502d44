//! From a request to what it asks for.

use std::sync::Arc;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use ironmesh_dialects::kinds::Resource;
use ironmesh_fds::slots::Busy;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{self, Answer};
use super::{discovery, metrics, openapi, protobuf, proxied, resources, reviews, stream, usage};
use crate::access::{Action, Door, User};
use crate::context::Context;
use crate::custom::Definition;
use crate::extension;
use crate::failure::Failure;
use crate::registry::{is_label, is_subdomain};
use crate::store::{Collection, Key};

/// A request, read as a whole.
#[derive(Clone, Debug)]
pub(super) struct ApiRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) accept: String,
    pub(super) content_type: String,
    pub(super) user_agent: String,
    pub(super) body: Vec<u8>,
    /// Who sends it.
    pub(super) user: Arc<User>,
    /// Where it came in.
    pub(super) door: Door,
    /// What the body takes of the room for all.
    _room: Option<Arc<OwnedSemaphorePermit>>,
}

impl ApiRequest {
    /// The value of a query parameter; empty if it is not there.
    pub(super) fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether a query parameter says yes: as in Kubernetes all that does not say no.
    pub(super) fn flag(&self, name: &str) -> bool {
        let no = |value: &str| value == "0" || value.eq_ignore_ascii_case("false");
        self.query.iter().any(|(key, value)| key == name && !no(value))
    }

    /// The same request without its body.
    pub(super) fn head(&self) -> Self {
        Self { body: Vec::new(), _room: None, ..self.clone() }
    }

    /// That who sends it may do what it asks of a target.
    ///
    /// # Errors
    ///
    /// 403 if not.
    pub(super) fn check(&self, target: &Target) -> Result<(), Failure> {
        let has_name = target.name.is_some();
        let verb = match self.method {
            Method::GET | Method::HEAD if self.flag("watch") => "watch",
            Method::GET | Method::HEAD if has_name => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if has_name => "delete",
            Method::DELETE => "deletecollection",
            _ => self.method.as_str(),
        };
        self.user.check(&Action::Resource {
            verb,
            group: &target.resource.group,
            resource: &target.resource.plural,
            subresource: target.subresource.as_deref().unwrap_or_default(),
            namespace: target.namespace.as_deref().unwrap_or_default(),
        })
    }

    /// Whether a table is wanted.
    pub(super) fn wants_table(&self) -> bool {
        self.accept.contains("as=Table")
    }

    /// Whether the request is only to be tried (`dryRun=All`).
    ///
    /// # Errors
    ///
    /// If it names anything else.
    pub(super) fn is_dry_run(&self) -> Result<bool, Failure> {
        let wanted = || self.query.iter().filter(|(key, _)| key == "dryRun");
        match wanted().find(|(_, value)| value != "All") {
            Some((_, other)) => Err(Failure::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
            None => Ok(wanted().next().is_some()),
        }
    }

    /// The body as JSON, whatever it is sent as.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        if protobuf::is_protobuf(&self.content_type) {
            return protobuf::read(&self.body);
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::bad_request(format!("the body of the request is not JSON: {error}"))
        })
    }
}

/// What a path under `/api` or `/apis` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The collection. Of one that the table does not have, kind and scope are still guessed from the
    /// path: its definition says them.
    pub(super) resource: Resource,
    /// Group in the path: that of the collection, or one that had it before.
    pub(super) group: String,
    /// Version in the path.
    pub(super) version: String,
    /// Namespace in the path.
    pub(super) namespace: Option<String>,
    /// Object in the path.
    pub(super) name: Option<String>,
    /// What comes behind it.
    pub(super) subresource: Option<String>,
    /// Whether the table of kinds has it.
    pub(super) known: bool,
}

impl Target {
    /// Key of the object.
    pub(super) fn key(&self, name: &str) -> Key {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        Collection::from(&self.resource).key(namespace, name)
    }

    /// Reads a path: group, version, and the segments after them.
    fn parse(group: &str, version: &str, rest: &[String]) -> Option<Self> {
        let rest: Vec<_> = rest.iter().map(String::as_str).collect();
        let (namespace, rest) = match &rest[..] {
            // `/namespaces/NAME` is a namespace itself, `/namespaces/NAME/status` a part of it.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] if group.is_empty() => {
                (None, &rest[..])
            }
            ["namespaces", namespace, tail @ ..] if !tail.is_empty() => {
                (Some((*namespace).to_owned()), tail)
            }
            all => (None, all),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        // Of kinds that nobody knows at least the names could be ones.
        let is_version = version.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let has_names = is_label(plural) && is_version && (group.is_empty() || is_subdomain(group));
        if !has_names || !Resource::is_served(group, version, plural) {
            return None;
        }
        let known = Resource::of_path(group, plural);
        let is_known = known.is_some();
        let resource = known.unwrap_or_else(|| Resource {
            group: group.into(),
            version: version.into(),
            kind: (*plural).into(),
            plural: (*plural).into(),
            namespaced: namespace.is_some(),
        });
        Some(Self {
            resource,
            group: group.to_owned(),
            version: version.to_owned(),
            namespace,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
            known: is_known,
        })
    }
}

/// Answers a request. What comes of a connection that becomes something else holds `place`.
pub(super) async fn handle(
    context: &Arc<Context>,
    request: Request<Incoming>,
    door: Door,
    place: Arc<Busy>,
) -> Answer {
    // Of strangers nothing more is read.
    let user = match context.access.identify(&context.registry, request.headers(), door) {
        Ok(user) => Arc::new(user),
        Err(failure) => return answer::failure(&failure),
    };
    if let Some(wanted) = stream::wanted(request.uri().path()) {
        let begun = stream::begin(context, &user, wanted, request, place);
        return begun.await.unwrap_or_else(|failure| answer::failure(&failure));
    }
    if let Some(wanted) = proxied::wanted(request.uri().path()) {
        let answered = proxied::answer(context, &user, wanted, request);
        return answered.await.unwrap_or_else(|failure| answer::failure(&failure));
    }
    let read = match read(context, user, door, request).await {
        Ok(read) => read,
        Err(failure) => return answer::failure(&failure),
    };
    let path = read.path.clone();
    let context = context.clone();
    // A task of its own, so that a panic ends this request and nothing else.
    let dispatched = tokio::spawn(async move { dispatch(&context, &read).await }).await;
    match dispatched {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => answer::failure(&failure),
        Err(error) => {
            tracing::error!(path, %error, "request not answered");
            answer::failure(&Failure::internal(
                "the request could not be answered; the log of the control plane says more",
            ))
        }
    }
}

async fn read(
    context: &Context,
    user: Arc<User>,
    door: Door,
    request: Request<Incoming>,
) -> Result<ApiRequest, Failure> {
    let (head, body) = request.into_parts();
    let limit = context.registry.limits().object_bytes_max;
    let longest = context.registry.limits().api_body_timeout;
    let announced = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(Failure::too_large(limit));
    }
    // Small ones are not worth waiting for room, and need not wait behind large ones.
    let bytes = announced
        .filter(|bytes| *bytes <= SMALL_BODY_BYTES)
        .map_or_else(|| u32::try_from(announced.unwrap_or(limit)).unwrap_or(u32::MAX), |_| 0);
    let reading = async {
        let room = context.bodies.clone().acquire_many_owned(bytes).await.ok();
        (room, Limited::new(body, limit).collect().await)
    };
    let (room, body) = tokio::time::timeout(longest, reading).await.map_err(|_| {
        Failure::timeout(format!("the body of the request did not come within {longest:?}"))
    })?;
    let body = match body {
        Ok(body) => body.to_bytes().into(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Failure::too_large(limit));
        }
        Err(error) => return Err(Failure::bad_request(error.to_string())),
    };
    let field = |name| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Ok(ApiRequest {
        path: head.uri.path().to_owned(),
        query: parse_query(head.uri.query().unwrap_or_default())?,
        accept: field(header::ACCEPT),
        content_type: field(header::CONTENT_TYPE),
        user_agent: field(header::USER_AGENT),
        method: head.method,
        body,
        user,
        door,
        _room: room.map(Arc::new),
    })
}

async fn dispatch(context: &Arc<Context>, request: &ApiRequest) -> Result<Answer, Failure> {
    let segments = request.path.split('/').filter(|segment| !segment.is_empty());
    let segments: Vec<String> =
        segments.map(|segment| decode(segment, false)).collect::<Result<_, _>>()?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let defined = || Definition::all(context.registry.store());
    let verb = request.method.as_str().to_ascii_lowercase();
    if let ["api", version, .., _] = words[..]
        && words.len() > 2
    {
        let target = Target::parse("", version, &segments[2..]);
        let target = target.ok_or_else(Failure::no_such_path)?;
        if target.subresource.as_deref() == Some("token") {
            request.check(&target)?;
            return reviews::request_token(context, request, &target);
        }
        return resources::handle(context, request, target).await;
    }
    if let ["apis", group, version, kind] = words[..]
        && let Some(review) = reviews::Review::of(group, version, kind)
    {
        return review.answer(context, request);
    }
    if let ["apis", usage::GROUP, usage::VERSION, ref path @ ..] = words[..]
        && !path.is_empty()
    {
        return usage::answer(context, request, path).await;
    }
    if let ["apis", group, version, _, ..] = words[..] {
        let target = Target::parse(group, version, &segments[3..]);
        let target = target.ok_or_else(Failure::no_such_path)?;
        return resources::handle(context, request, target).await;
    }
    request.user.check(&Action::Path { verb: &verb, path: &request.path })?;
    match words[..] {
        ["healthz" | "livez" | "readyz", ..] => Ok(answer::text("ok")),
        ["metrics"] => Ok(metrics::answer(context)),
        ["version"] => Ok(answer::json(StatusCode::OK, &discovery::version())),
        ["api" | "apis"]
            if let Some((media_type, list)) =
                discovery::aggregated(&request.accept, words == ["api"], &defined()) =>
        {
            Ok(answer::whole(StatusCode::OK, media_type, list.to_string()))
        }
        ["api"] => Ok(answer::json(StatusCode::OK, &discovery::core_versions())),
        ["apis"] => Ok(answer::json(StatusCode::OK, &discovery::groups(&defined()))),
        ["ironmesh", ref path @ ..] => extended(context, request, path).await,
        ["openapi", "v2"] => Ok(openapi::v2::answer(&request.accept)),
        ["openapi", "v3"] => Ok(answer::json(StatusCode::OK, &openapi::index())),
        ["openapi", "v3", "api", version] => discovered(openapi::document("", version)),
        ["openapi", "v3", "apis", group, version] => discovered(openapi::document(group, version)),
        ["apis", group] => discovered(discovery::group(group, &defined())),
        ["api", version] => discovered(discovery::resources("", version, &[])),
        ["apis", group, version] => discovered(discovery::resources(group, version, &defined())),
        _ => Err(Failure::no_such_path()),
    }
}

/// Answers for a path below `/ironmesh`: what the store has lost itself, all else the extension.
async fn extended(
    context: &Arc<Context>,
    request: &ApiRequest,
    path: &[&str],
) -> Result<Answer, Failure> {
    if path == ["notices"] && request.method == Method::GET {
        return Ok(answer::json(StatusCode::OK, &context.registry.store().losses()));
    }
    if path == ["kubeconfig"] && request.method == Method::GET {
        return Ok(answer::json(StatusCode::OK, &context.way_in()));
    }
    let ApiRequest { method, query, body, .. } = request;
    let asked = extension::Request { method, path, query, body };
    let answer = context.extension.answer(&asked).await?;
    Ok(answer::whole(StatusCode::OK, "application/json", answer))
}

fn discovered(found: Option<Value>) -> Result<Answer, Failure> {
    found.map(|value| answer::json(StatusCode::OK, &value)).ok_or_else(Failure::no_such_path)
}

pub(super) fn parse_query(query: &str) -> Result<Vec<(String, String)>, Failure> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| Ok((decode(key, true)?, decode(value, true)?)))
        .collect()
}

/// Decodes percent escapes, and in a query `+`.
///
/// # Errors
///
/// If an escape is none, or the result is not UTF-8.
pub(super) fn decode(text: &str, in_query: bool) -> Result<String, Failure> {
    let invalid = |what: &str| Failure::bad_request(format!("invalid URL: {text:?} {what}"));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let digits = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                let hex = digits.and_then(|hex| std::str::from_utf8(hex).ok());
                let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.push(
                    byte.ok_or_else(|| invalid("has an escape that is not % and two hex digits"))?,
                );
                rest = &tail[2..];
            }
            b'+' if in_query => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    String::from_utf8(out).map_err(|_| invalid("is not UTF-8"))
}

/// Bodies up to this many bytes always have room: there are only so many connections.
const SMALL_BODY_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_objects() {
        let parse = |group: &str, path: &str| {
            let segments: Vec<_> = path.split('/').map(str::to_owned).collect();
            let version = if group == "extensions" { "v1beta1" } else { "v1" };
            let target = Target::parse(group, version, &segments)?;
            let Target { resource, namespace, name, subresource, .. } = target;
            Some((resource.qualified(), namespace, name, subresource))
        };
        let owned = |text: &str| Some(text.to_owned());
        for (group, path, expected) in [
            ("", "namespaces", ("namespaces", None, None, None)),
            ("", "namespaces/n", ("namespaces", None, owned("n"), None)),
            ("", "namespaces/n/status", ("namespaces", None, owned("n"), owned("status"))),
            ("", "namespaces/n/pods", ("pods", owned("n"), None, None)),
            ("", "namespaces/n/pods/p/log", ("pods", owned("n"), owned("p"), owned("log"))),
            ("", "pods", ("pods", None, None, None)),
            (
                "extensions",
                "namespaces/n/deployments/d",
                ("deployments.apps", owned("n"), owned("d"), None),
            ),
            (
                "example.com",
                "namespaces/n/things/t",
                ("things.example.com", owned("n"), owned("t"), None),
            ),
        ] {
            let (plural, namespace, name, sub) = expected;
            let expected = Some((plural.to_owned(), namespace, name, sub));
            assert_eq!(parse(group, path), expected, "{path}");
        }
        assert_eq!(parse("", "a/b/c/d/e"), None);
        assert_eq!(Target::parse("apps", "v7", &["deployments".to_owned()]), None);
    }

    #[test]
    fn queries_are_decoded() {
        let pairs = parse_query("labelSelector=app%3Dreviews%2Cversion%20in+(v1)&watch").unwrap();
        assert_eq!(pairs[0].1, "app=reviews,version in (v1)");
        assert_eq!(pairs[1], ("watch".to_owned(), String::new()));
        for wrong in ["100%", "%zz", "%+1", "%ff", "a=%c3"] {
            assert_eq!(decode(wrong, true).unwrap_err().code, 400, "{wrong}");
        }
    }
}
