//! The one call of gRPC's health protocol that a probe makes: `grpc.health.v1.Health/Check`.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Asks a server whether a service of it is healthy; an error says what it said instead.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("gRPC: {error}");
    let authority = stream.peer_addr().map_err(|error| error.to_string())?;
    let message = request(service).ok_or("the service's name is too long")?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.30")
        .body(Full::new(message))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| format!("gRPC: {error}"))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    judge(&head.headers, &trailers, &body.to_bytes())
}

/// The framed `HealthCheckRequest`: its field 1 is the service.
fn request(service: &str) -> Option<Bytes> {
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 0x80)?;
    let message = match length {
        0 => Vec::new(),
        length => [&[0x0a, length], service.as_bytes()].concat(),
    };
    let framed_length = u32::try_from(message.len()).ok()?.to_be_bytes();
    Some([&[0], framed_length.as_slice(), &message].concat().into())
}

/// What an answer says: its status of gRPC, and the field 1 of the framed `HealthCheckResponse`.
fn judge(head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let field = |name: &str| {
        let value = trailers.get(name).or_else(|| head.get(name))?;
        value.to_str().ok().map(str::to_owned)
    };
    match field("grpc-status").as_deref() {
        Some("0") => {}
        Some(UNIMPLEMENTED) => {
            return Err("the server does not implement grpc.health.v1.Health".to_owned());
        }
        status => {
            let message = field("grpc-message").unwrap_or_default();
            return Err(format!("gRPC status {}: {message}", status.unwrap_or("is missing")));
        }
    }
    match body.get(FRAME_HEAD_BYTES..) {
        Some([0x08, SERVING, ..]) => Ok(()),
        Some([0x08, status, ..]) => Err(format!("service unhealthy (health status {status})")),
        _ => Err("service unhealthy (health status unknown)".to_owned()),
    }
}

/// Code of gRPC for a call that a server does not have.
const UNIMPLEMENTED: &str = "12";
/// `HealthCheckResponse.ServingStatus` of a service that takes calls.
const SERVING: u8 = 1;
/// A message is preceded by a flag and its length.
const FRAME_HEAD_BYTES: usize = 5;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: &str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
    }

    #[test]
    fn requests_name_their_service() {
        assert_eq!(request("").unwrap(), &[0, 0, 0, 0, 0][..]);
        assert_eq!(request("ab").unwrap(), &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b'][..]);
        assert_eq!(request(&"x".repeat(128)), None);
    }

    #[test]
    fn answers_are_judged_by_both_statuses() {
        let none = HeaderMap::new();
        let said = |head: &HeaderMap, trailers: &HeaderMap, body: &[u8]| {
            judge(head, trailers, body).err().unwrap_or_default()
        };
        assert_eq!(said(&none, &headers("0"), &[0, 0, 0, 0, 2, 8, 1]), "");
        let not_serving = said(&none, &headers("0"), &[0, 0, 0, 0, 2, 8, 2]);
        assert_eq!(not_serving, "service unhealthy (health status 2)");
        assert!(said(&none, &headers("0"), &[0, 0, 0, 0, 0]).contains("unknown"));
        assert!(said(&headers("12"), &none, b"").contains("does not implement"));
        assert!(said(&headers("5"), &none, b"").starts_with("gRPC status 5"));
        assert!(said(&none, &none, b"").contains("missing"));
    }

    #[tokio::test]
    async fn a_server_is_asked_over_http2() {
        use hyper::service::service_fn;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let answer = service_fn(|request: Request<hyper::body::Incoming>| async {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let asked = request.into_body().collect().await?.to_bytes();
            assert_eq!(asked, &[0, 0, 0, 0, 6, 0x0a, 4, b'c', b'a', b'r', b't'][..]);
            let body = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
            let trailers = async { Some(Ok(headers("0"))) };
            Ok::<_, hyper::Error>(http::Response::new(body.with_trailers(trailers)))
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), answer);
        tokio::spawn(serving);
        check(client, "cart").await.unwrap();
    }
}
