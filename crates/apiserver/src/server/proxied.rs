//! HTTP requests to a pod or a Service by way of the API (`kubectl get --raw .../proxy/PATH`, `kubectl
//! proxy`). They come to the pod's own loopback, as forwarded ports do, so past its sidecar; those to a
//! Service go to one of its ready pods.

use std::sync::Arc;

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ironmesh_dialects::kinds::Resource;
use serde_json::Value;
use tokio::time::timeout;

use super::answer::{Answer, AnswerBody};
use super::request::decode;
use crate::access::{Action, User};
use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::object::{Object, list};
use crate::store::Collection;

/// Where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    namespace: String,
    /// `pods` or `services`.
    plural: &'static str,
    /// `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
    target: String,
    /// The path up to where that of the application begins.
    prefix: String,
}

/// Where a path leads, if it is one of these.
pub(super) fn wanted(path: &str) -> Option<Wanted> {
    let mut words = path.strip_prefix("/api/v1/namespaces/")?.splitn(5, '/');
    let (namespace, plural, target) = (words.next()?, words.next()?, words.next()?);
    let plural = *["pods", "services"].iter().find(|known| **known == plural)?;
    if words.next() != Some("proxy") {
        return None;
    }
    let prefix = format!("/api/v1/namespaces/{namespace}/{plural}/{target}/proxy");
    let (namespace, target) = (decode(namespace, false).ok()?, decode(target, false).ok()?);
    Some(Wanted { namespace, plural, target, prefix })
}

/// Has a request answered by the application that it is for.
///
/// # Errors
///
/// If the caller may not do it, there is no such pod or Service, or nothing there answers.
pub(super) async fn answer(
    context: &Arc<Context>,
    user: &User,
    wanted: Wanted,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    user.check(&Action::Resource {
        verb: verb(request.method()),
        group: "",
        resource: wanted.plural,
        subresource: "proxy",
        namespace: &wanted.namespace,
    })?;
    let place = Place::find(context, &wanted)?;
    let longest = context.registry.limits().api_proxy_timeout;
    let asking = place.ask(context, &wanted.prefix, request);
    let answer = timeout(longest, asking).await.map_err(|_| {
        let seconds = longest.as_secs();
        place.failure(&format!("no answer within {seconds} s (limits.control.api_proxy_timeout)"))
    })??;
    let (mut head, body) = answer.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(place.failure("it switches to another protocol, which is not passed on"));
    }
    head.version = Version::HTTP_11;
    drop_hop_headers(&mut head.headers);
    lead_back(&mut head.headers, &wanted.prefix);
    Ok(Answer::from_parts(head, AnswerBody::new(body)))
}

/// What Kubernetes' roles call a method.
fn verb(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => method.as_str(),
    }
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    namespace: String,
    pod: String,
    port: u16,
}

impl Place {
    fn find(context: &Context, wanted: &Wanted) -> Result<Self, Failure> {
        let Wanted { namespace, plural, target, .. } = wanted;
        let words: Vec<&str> = target.split(':').collect();
        let (scheme, name, port) = match words[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return Err(Failure::bad_request(format!("invalid {plural} request {target:?}"))),
        };
        if !matches!(scheme, "" | "http") {
            return Err(Failure::bad_request(format!(
                "the API speaks plain HTTP to {plural}, and not {scheme:?}: use port-forward"
            )));
        }
        let key = Collection::core(plural).key(namespace, name);
        let kind = if *plural == "pods" { "Pod" } else { "Service" };
        let object = context.registry.object(&Resource::of("v1", kind), &key)?;
        let (pod, port) = if *plural == "pods" {
            (name.to_owned(), port_of_pod(&object, port)?)
        } else {
            let port = port_of_service(&object, name, port)?;
            let key = Collection::core("endpoints").key(namespace, name);
            let endpoints = context.registry.store().object(&key);
            let all = endpoints.as_deref().map(|all| pods_behind(all, &port)).unwrap_or_default();
            let drawn = usize::from(u16::from_ne_bytes(clock::random())) % all.len().max(1);
            all.into_iter().nth(drawn).ok_or_else(|| {
                Failure::unavailable(format!("no endpoints available for service {name:?}"))
            })?
        };
        Ok(Self { namespace: namespace.clone(), pod, port })
    }

    fn failure(&self, why: &str) -> Failure {
        let Self { pod, port, .. } = self;
        Failure::unavailable(format!("error trying to reach port {port} of pod {pod:?}: {why}"))
    }

    /// Sends a request there. The connection is for it alone.
    async fn ask(
        &self,
        context: &Context,
        prefix: &str,
        request: Request<Incoming>,
    ) -> Result<http::Response<Incoming>, Failure> {
        let connected = context.node.connect(&self.namespace, &self.pod, self.port).await;
        let connection = connected.map_err(|why| self.failure(&why))?;
        let broken = |error: hyper::Error| self.failure(&error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
        // It ends with the answer, or when nobody takes that any more.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a pod ended");
            }
        });
        let (mut head, body) = request.into_parts();
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = head.uri.path().strip_prefix(prefix).filter(|rest| !rest.is_empty());
        let path = format!("{}{query}", path.unwrap_or("/"));
        let path: PathAndQuery =
            path.parse().map_err(|_| Failure::bad_request(format!("invalid path {path:?}")))?;
        head.uri = Uri::from(path);
        drop_hop_headers(&mut head.headers);
        // Who the caller is concerns the API alone.
        let is_secret = |name: &HeaderName| {
            *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-")
        };
        let secret: Vec<HeaderName> =
            head.headers.keys().filter(|name| is_secret(name)).cloned().collect();
        for name in secret {
            head.headers.remove(name);
        }
        if let Ok(host) = HeaderValue::try_from(format!("localhost:{}", self.port)) {
            head.headers.insert(header::HOST, host);
        }
        sender.send_request(Request::from_parts(head, body)).await.map_err(broken)
    }
}

/// The port of a pod: without one its first, else 80, as in Kubernetes.
fn port_of_pod(pod: &Object, port: &str) -> Result<u16, Failure> {
    if !port.is_empty() {
        let number = port.parse().ok().filter(|number| *number != 0);
        return number
            .ok_or_else(|| Failure::bad_request(format!("the port {port:?} is no number")));
    }
    let containers = list(pod, "/spec/containers");
    let mut ports =
        containers.iter().filter_map(|container| number(&container["ports"][0]["containerPort"]));
    Ok(ports.next().unwrap_or(80))
}

/// The name of a Service's port, which is given by number or by name; without either its only one.
fn port_of_service(service: &Object, name: &str, port: &str) -> Result<String, Failure> {
    let ports = list(service, "/spec/ports");
    let wanted = port.parse::<u16>().ok();
    let is_it = |other: &&Value| match wanted {
        Some(wanted) => number(&other["port"]) == Some(wanted),
        None => !port.is_empty() && other["name"] == *port,
    };
    let found = match (port, ports) {
        ("", [only]) => Some(only),
        _ => ports.iter().find(is_it),
    };
    let missing =
        || Failure::unavailable(format!("no service port {port:?} found for service {name:?}"));
    Ok(found.ok_or_else(missing)?["name"].as_str().unwrap_or_default().to_owned())
}

/// The ready pods of Endpoints, each with its port of a name.
fn pods_behind(endpoints: &Object, port: &str) -> Vec<(String, u16)> {
    let subsets = list(endpoints, "/subsets").iter();
    let of_subset = |subset: &Value| {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let found = ports
            .filter(|other| other["name"].as_str().unwrap_or_default() == port)
            .find_map(|other| number(&other["port"]));
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        let pods = addresses.map(|address| &address["targetRef"]).filter(|to| to["kind"] == "Pod");
        let pods = pods.filter_map(|pod| Some((pod["name"].as_str()?.to_owned(), found?)));
        pods.collect::<Vec<_>>()
    };
    subsets.flat_map(of_subset).collect()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

/// Takes away what concerns one connection (RFC 9110, 7.6.1).
fn drop_hop_headers(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter();
    let named = named.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named: Vec<HeaderName> = named.filter_map(|name| name.trim().parse().ok()).collect();
    for name in named.iter().chain(&HOP_HEADERS) {
        headers.remove(name);
    }
}

/// Has a redirect within the application come this way, too.
fn lead_back(headers: &mut HeaderMap, prefix: &str) {
    let Some(to) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let is_path = to.starts_with('/') && !to.starts_with("//");
    if is_path && let Ok(to) = HeaderValue::try_from(format!("{prefix}{to}")) {
        headers.insert(header::LOCATION, to);
    }
}

const HOP_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_paths_of_pods_and_services_lead_there() {
        let wanted = |path: &str| wanted(path).map(|w| (w.namespace, w.plural, w.target, w.prefix));
        let of = |plural, target: &str, prefix: &str| {
            Some(("n".to_owned(), plural, target.to_owned(), prefix.to_owned()))
        };
        let prefix = "/api/v1/namespaces/n/pods/p:80/proxy";
        assert_eq!(wanted(prefix), of("pods", "p:80", prefix));
        assert_eq!(wanted(&format!("{prefix}/a%2Fb//c/proxy/")), of("pods", "p:80", prefix));
        let escaped = "/api/v1/namespaces/n/services/http%3As%3A80/proxy";
        assert_eq!(wanted(&format!("{escaped}/")), of("services", "http:s:80", escaped));
        for other in [
            "/api/v1/namespaces/n/pods/p",
            "/api/v1/namespaces/n/pods/p/proxyx",
            "/api/v1/namespaces/n/pods/p/log/proxy",
            "/api/v1/namespaces/n/secrets/s/proxy",
            "/api/v1/namespaces/n/pods/%ff/proxy",
            "/apis/apps/v1/namespaces/n/pods/p/proxy",
        ] {
            assert_eq!(wanted(other), None, "{other}");
        }
    }

    #[test]
    fn headers_of_a_connection_stay_with_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Hop"), ("x-hop", "1"), ("upgrade", "h2c"), ("x-kept", "1")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        drop_hop_headers(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn redirects_come_back_this_way_and_those_elsewhere_do_not() {
        for (to, expected) in
            [("/a?b", "/p/a?b"), ("//other/a", "//other/a"), ("http://x/", "http://x/"), ("a", "a")]
        {
            let value = HeaderValue::from_static(to);
            let mut headers = HeaderMap::from_iter([(header::LOCATION, value)]);
            lead_back(&mut headers, "/p");
            assert_eq!(headers[header::LOCATION], expected);
        }
    }

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let pod = json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "ports": [{"containerPort": 9080}]},
        ]}});
        assert_eq!(port_of_pod(&pod, ""), Ok(9080));
        assert_eq!(port_of_pod(&json!({}), ""), Ok(80));
        assert_eq!(port_of_pod(&pod, "81"), Ok(81));
        for wrong in ["0", "http", "65536", "-1"] {
            assert_eq!(port_of_pod(&pod, wrong).unwrap_err().code, 400, "{wrong}");
        }
        let ports = json!([{"name": "http", "port": 80}, {"name": "other", "port": 81}]);
        let service = json!({"spec": {"ports": ports}});
        for port in ["80", "http"] {
            assert_eq!(port_of_service(&service, "s", port).unwrap(), "http");
        }
        for wrong in ["", "82", "x"] {
            assert_eq!(port_of_service(&service, "s", wrong).unwrap_err().code, 503, "{wrong}");
        }
        let only = json!({"spec": {"ports": [{"port": 80}]}});
        assert_eq!(port_of_service(&only, "s", "").unwrap(), "");
    }
}
