//! The protocol that a port declares.

use ironmesh_model::service::Protocol;

/// By `appProtocol`, else by the name: the protocol, or the protocol and a dash before the rest; else
/// by the number, of ports at which the server is known to speak first (Istio, "Protocol Selection"
/// and `kube.ConvertProtocol`).
pub(crate) fn declared(port: u16, app_protocol: Option<&str>, name: &str) -> Protocol {
    let text = app_protocol.unwrap_or(name).to_ascii_lowercase();
    match app_protocol.map(|_| text.as_str()) {
        Some("kubernetes.io/h2c") => return Protocol::Http2,
        Some("kubernetes.io/ws") => return Protocol::Http,
        Some("kubernetes.io/wss") => return Protocol::Tls,
        _ => {}
    }
    // The one protocol that has a dash itself. It is HTTP/1 as well as HTTP/2.
    if text.starts_with("grpc-web") {
        return Protocol::Http;
    }
    match text.split_once('-').map_or(text.as_str(), |(prefix, _)| prefix) {
        "http" | "http_proxy" => Protocol::Http,
        "http2" | "h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "https" | "tls" => Protocol::Tls,
        "tcp" | "mongo" | "redis" | "mysql" => Protocol::Tcp,
        _ if SERVER_SPEAKS_FIRST.contains(&port) => Protocol::Tcp,
        _ => Protocol::Undeclared,
    }
}

/// SMTP, DNS, MySQL and MongoDB, as Istio has them.
const SERVER_SPEAKS_FIRST: [u16; 4] = [25, 53, 3306, 27017];

#[cfg(test)]
mod tests {
    use super::*;

    /// Trap 19: names decide, and a server-first protocol by its name is never sniffed.
    #[test]
    fn trap_19_port_names_decide_the_protocol() {
        for (app_protocol, name, protocol) in [
            (None, "http", Protocol::Http),
            (None, "http-web", Protocol::Http),
            (None, "HTTP", Protocol::Http),
            (None, "http2", Protocol::Http2),
            (None, "grpc-api", Protocol::Grpc),
            (None, "grpc-web", Protocol::Http),
            (None, "grpc-web-api", Protocol::Http),
            (None, "https", Protocol::Tls),
            (None, "tls-x", Protocol::Tls),
            (None, "tcp-db", Protocol::Tcp),
            (None, "mysql", Protocol::Tcp),
            (None, "redis", Protocol::Tcp),
            (None, "mongo", Protocol::Tcp),
            (None, "service", Protocol::Undeclared),
            (None, "prom", Protocol::Undeclared),
            (None, "httpx", Protocol::Undeclared),
            (None, "", Protocol::Undeclared),
            (Some("http"), "tcp", Protocol::Http),
            (Some("kubernetes.io/h2c"), "", Protocol::Http2),
            (Some("kubernetes.io/h2c"), "tcp", Protocol::Http2),
            (Some("kubernetes.io/ws"), "", Protocol::Http),
            (Some("kubernetes.io/wss"), "http", Protocol::Tls),
            (Some("HTTP2"), "", Protocol::Http2),
            (Some("grpc-web"), "tcp", Protocol::Http),
            (Some("http-own"), "", Protocol::Http),
            (Some("mysql"), "http", Protocol::Tcp),
            (Some("example.com/own"), "http", Protocol::Undeclared),
            (Some(""), "http", Protocol::Undeclared),
            (None, "http_proxy", Protocol::Http),
            (None, "gRPC-Web-x", Protocol::Http),
            (None, "MySQL-main", Protocol::Tcp),
            (None, "h2c", Protocol::Http2),
            (None, "kubernetes.io/h2c", Protocol::Undeclared),
        ] {
            assert_eq!(declared(80, app_protocol, name), protocol, "{app_protocol:?} {name}");
        }
    }

    #[test]
    fn a_server_at_a_well_known_port_speaks_first_unless_the_port_says_otherwise() {
        for (port, app_protocol, name, protocol) in [
            (3306, None, "", Protocol::Tcp),
            (25, None, "mail", Protocol::Tcp),
            (53, Some("example.com/own"), "", Protocol::Tcp),
            (27017, None, "http", Protocol::Http),
            (27018, None, "", Protocol::Undeclared),
        ] {
            assert_eq!(
                declared(port, app_protocol, name),
                protocol,
                "{port} {app_protocol:?} {name}"
            );
        }
    }
}
