//! Where clients outside reach the ports of a gateway: at those of Services, of the node, or of the
//! host.

use std::net::IpAddr;

use ironmesh_dialects::kubernetes::kinds::{Pod, Service};
use ironmesh_model::Snapshot;
use serde_json::Value;

use crate::source::{ObjectKey, Source};

/// A port outside that leads to one of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number outside.
    pub(super) outside: u16,
    /// The gateway's.
    pub(super) own: u16,
    /// Whose it is, in words. Ports of one owner are used together: who came by one of them finds the
    /// others there.
    pub(super) of: String,
}

/// The places of a gateway's ports.
pub(super) fn places(
    source: &dyn Source,
    snapshot: &Snapshot,
    pod: &Value,
    ip: IpAddr,
) -> Vec<Place> {
    let mut places = Vec::new();
    for (id, maps) in snapshot.services_at(ip) {
        let domain = format!(".{}.svc.cluster.local", id.namespace);
        let Some(name) = id.hostname.strip_suffix(&domain) else { continue };
        let (group, kind) = ("".into(), "Service".into());
        let key = ObjectKey { group, kind, namespace: id.namespace.clone(), name: name.into() };
        let Some(object) = source.object(&key) else { continue };
        for map in &maps {
            let mut ports = Service::of(&object).spec().ports();
            let Some(port) = ports.find(|port| port.port() == map.service) else { continue };
            let own = map.target;
            let service = format!("Service {}/{name}", id.namespace);
            places.push(Place { outside: map.service, own, of: service.clone() });
            let of_node = port.node_port().and_then(|port| u16::try_from(port.get()).ok());
            if let Some(outside) = of_node.filter(|port| *port > 0) {
                places.push(Place { outside, own, of: format!("the node, by {service}") });
            }
        }
    }
    for container in Pod::of(pod).spec().containers() {
        for port in container.ports().filter(|port| port.host_port() > 0) {
            let (outside, own) = (port.host_port(), port.container_port());
            places.push(Place { outside, own, of: "the host".to_owned() });
        }
    }
    places
}

/// The place by which a client comes that dials this port of a gateway, if the gateway has no such port
/// itself.
pub(super) fn entered(
    places: &[Place],
    port: u16,
    listens: impl Fn(u16) -> bool,
) -> Option<&Place> {
    if listens(port) {
        return None;
    }
    places.iter().find(|place| place.outside == port && listens(place.own))
}

/// At which number a client who came by a place finds another port of the gateway.
pub(super) fn published(places: &[Place], by: &Place, port: u16) -> Option<u16> {
    let there = places.iter().find(|place| place.of == by.of && place.own == port)?;
    Some(there.outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_by_one_place_finds_the_other_ports_there() {
        let place = |outside, own, of: &str| Place { outside, own, of: of.to_owned() };
        let places = [
            place(8080, 80, "a"),
            place(8443, 443, "a"),
            place(30080, 80, "b"),
            place(30443, 443, "b"),
            place(9000, 22, "a"),
        ];
        let listens = |port| port == 80 || port == 443;
        assert_eq!(entered(&places, 80, listens), None, "its own");
        assert_eq!(entered(&places, 9000, listens), None, "nobody listens there");
        for (port, of, secure) in [(8080, "a", 8443), (30080, "b", 30443)] {
            let by = entered(&places, port, listens).unwrap();
            assert_eq!((&*by.of, published(&places, by, 443)), (of, Some(secure)));
            assert_eq!(published(&places, by, 15443), None);
        }
    }
}
