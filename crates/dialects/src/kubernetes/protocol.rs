//! The protocol that a port declares.

use ironmesh_model::service::Protocol;

/// By `appProtocol`, else by the name: the protocol, or the protocol and a dash before the rest
/// (Istio, "Protocol Selection").
pub(super) fn declared(app_protocol: Option<&str>, name: &str) -> Protocol {
    if let Some(app_protocol) = app_protocol {
        return match app_protocol.to_ascii_lowercase().as_str() {
            "kubernetes.io/h2c" => Protocol::Http2,
            "kubernetes.io/ws" => Protocol::Http,
            "kubernetes.io/wss" => Protocol::Tls,
            word => known(word),
        };
    }
    let name = name.to_ascii_lowercase();
    let prefix = name.split_once('-').map_or(name.as_str(), |(prefix, _)| prefix);
    // The one protocol that has a dash itself.
    if name == "grpc-web" || name.starts_with("grpc-web-") { Protocol::Http } else { known(prefix) }
}

fn known(word: &str) -> Protocol {
    match word {
        "http" | "grpc-web" => Protocol::Http,
        "http2" | "h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "https" | "tls" => Protocol::Tls,
        "tcp" | "mongo" | "redis" | "mysql" => Protocol::Tcp,
        _ => Protocol::Undeclared,
    }
}

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
            (Some("example.com/own"), "http", Protocol::Undeclared),
        ] {
            assert_eq!(declared(app_protocol, name), protocol, "{app_protocol:?} {name}");
        }
    }
}
