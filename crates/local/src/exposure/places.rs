//! Where on the host the ports of a Service answer. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use ironmesh_dialects::kubernetes::kinds::{
    ServicePort, ServiceProtocol, ServiceSpec, ServiceType,
};

use super::At;
use crate::addresses::{HostAddresses, LOW_PORT_OFFSET};
use crate::host_link::Transport;

/// A place on the host, and the port of the Service that answers there.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) at: At,
    pub(super) port: &'a ServicePort,
}

/// The places of a Service that has this address, and what a user should know of those that are
/// missing or not where they are looked for.
pub(super) fn places(
    host: HostAddresses,
    address: Option<Ipv4Addr>,
    spec: &ServiceSpec,
) -> (Vec<Place<'_>>, Vec<String>) {
    let (mut places, mut notes) = (Vec::new(), Vec::new());
    if !matches!(spec.of, ServiceType::NodePort | ServiceType::LoadBalancer) {
        return (places, notes);
    }
    for port in &spec.ports {
        let Some(transport) = transport(port) else {
            let protocol = port.protocol.word();
            notes.push(format!(
                "port {}: {protocol} is not published, only TCP and UDP are",
                port.port
            ));
            continue;
        };
        let place = |ip, number| Place { at: (SocketAddrV4::new(ip, number), transport), port };
        if let Some(address) = address {
            match own_port(host, spec, port) {
                Own::At(number) => {
                    if number != port.port {
                        notes.push(format!(
                            "port {} is at {address}:{number}: this user may not listen on ports \
                             below {}",
                            port.port, host.lowest_port
                        ));
                    }
                    places.push(place(address, number));
                }
                Own::Twin => {}
                Own::Nowhere => notes.push(format!(
                    "port {} is not published: this user may not listen on ports below {}, and port \
                     {} is another of the Service",
                    port.port,
                    host.lowest_port,
                    port.port + LOW_PORT_OFFSET
                )),
            }
        }
        if let Some(number) = port.node_port.and_then(|port| u16::try_from(port.0).ok())
            && number > 0
        {
            places.push(place(host.node(), number));
        }
    }
    (places, notes)
}

/// Where a port is at the Service's own address.
enum Own {
    At(u16),
    /// It is too low, and where it would be instead the Service has a port that leads to the same.
    Twin,
    /// It is too low, and where it would be instead is another port.
    Nowhere,
}

fn own_port(host: HostAddresses, spec: &ServiceSpec, port: &ServicePort) -> Own {
    let number = host.port(port.port);
    if number == port.port {
        return Own::At(number);
    }
    let is_like = |other: &&ServicePort| other.protocol == port.protocol;
    let twin = spec.ports.iter().filter(is_like).find(|other| other.port == number);
    match twin {
        None => Own::At(number),
        Some(twin) if target(twin) == target(port) => Own::Twin,
        Some(_) => Own::Nowhere,
    }
}

/// By what a port is reached on the host; none: it is not.
fn transport(port: &ServicePort) -> Option<Transport> {
    match port.protocol {
        ServiceProtocol::Tcp => Some(Transport::Tcp),
        ServiceProtocol::Udp => Some(Transport::Udp),
        _ => None,
    }
}

/// What a port leads to, by number or name.
fn target(port: &ServicePort) -> String {
    let target = port.target_port.as_ref().map(ToString::to_string);
    target.filter(|target| !target.is_empty()).unwrap_or_else(|| port.port.to_string())
}

#[cfg(test)]
mod tests {
    use ironmesh_dialects::kubernetes::kinds::Service;
    use ironmesh_dialects::schema::parse;
    use serde_json::{Value, json};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 130, 4, 4);

    fn service(of: &str, ports: &Value) -> Service {
        parse(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
            "spec": {"type": of, "ports": ports},
        }))
        .unwrap()
    }

    /// Where the ports answer, and how many notes there are.
    fn where_is(lowest_port: u16, of: &str, ports: Value) -> (Vec<String>, usize) {
        let host = HostAddresses { network: [127, 130, 0, 0].into(), lowest_port };
        let service = service(of, &ports);
        let address = (of == "LoadBalancer").then_some(ADDRESS);
        let (places, notes) = places(host, address, &service.spec);
        let place = |place: &Place<'_>| {
            let udp = if place.at.1 == Transport::Udp { " udp" } else { "" };
            format!("{}{udp} {}", place.at.0, place.port.port)
        };
        (places.iter().map(place).collect(), notes.len())
    }

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(str::to_owned).to_vec()
    }

    #[test]
    fn ports_are_where_they_are_looked_for_if_that_is_allowed() {
        let ports = || json!([{"port": 80, "nodePort": 30080}, {"port": 9990}]);
        let balancer = |lowest| where_is(lowest, "LoadBalancer", ports());
        let expected = ["127.130.4.4:80 80", "127.130.0.1:30080 80", "127.130.4.4:9990 9990"];
        assert_eq!(balancer(0), (texts(expected), 0));
        assert_eq!(balancer(80), (texts(expected), 0));
        let expected = ["127.130.4.4:8080 80", "127.130.0.1:30080 80", "127.130.4.4:9990 9990"];
        assert_eq!(balancer(1024), (texts(expected), 1));
        assert_eq!(where_is(0, "NodePort", ports()), (texts(["127.130.0.1:30080 80"]), 0));
        assert_eq!(where_is(0, "ClusterIP", ports()), (Vec::new(), 0));
    }

    #[test]
    fn a_low_port_takes_no_other_ports_place() {
        let twins = json!([{"port": 8080, "targetPort": 80}, {"port": 80}]);
        let expected = texts(["127.130.4.4:8080 8080"]);
        assert_eq!(where_is(1024, "LoadBalancer", twins), (expected.clone(), 0));
        let strangers = json!([{"port": 8080}, {"port": 80}]);
        assert_eq!(where_is(1024, "LoadBalancer", strangers), (expected, 1));
        // A port of UDP stands in no port's way that is of TCP.
        let both = json!([{"port": 53, "protocol": "UDP"}, {"port": 8053}]);
        let expected = texts(["127.130.4.4:8053 udp 53", "127.130.4.4:8053 8053"]);
        assert_eq!(where_is(1024, "LoadBalancer", both), (expected, 1));
        let udp = json!([{"port": 53, "protocol": "UDP", "nodePort": 30053}]);
        let expected = texts(["127.130.4.4:53 udp 53", "127.130.0.1:30053 udp 53"]);
        assert_eq!(where_is(0, "LoadBalancer", udp), (expected, 0));
        let sctp = json!([{"port": 53, "protocol": "SCTP", "nodePort": 30053}]);
        assert_eq!(where_is(0, "LoadBalancer", sctp), (Vec::new(), 1));
    }
}
