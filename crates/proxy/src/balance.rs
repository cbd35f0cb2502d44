//! Choosing an endpoint of a group.

use std::net::{IpAddr, SocketAddr};

use ironmesh_model::service::{Endpoint, EndpointAddress};
use ironmesh_model::view::{EndpointGroup, GroupEndpoint};
use smallvec::SmallVec;

/// Endpoints that were tried for one request and that it should not meet again.
pub(crate) type Tried = SmallVec<[u32; 4]>;

/// The next endpoint in turn, by index into the group's: strictly cyclic over the ready ones, as
/// the cursor is shared by all workers. Those in `tried` are passed over while there are others.
///
/// The callers of a headless service choose the endpoint themselves: if `dialled` is one of them it
/// gets the request, ready or not, and no other does (Istio's `ORIGINAL_DST`).
pub(crate) fn pick(group: &EndpointGroup, tried: &[u32], dialled: SocketAddr) -> Option<u32> {
    if group.service.headless
        && let Some(own) = group.endpoints.iter().position(|e| address(e) == Some(dialled))
    {
        return u32::try_from(own).ok().filter(|own| !tried.contains(own));
    }
    if group.ready.is_empty() {
        return None;
    }
    let count = group.ready.len() as u64;
    let turn = group.cursor.next();
    let at = |step: u64| usize::try_from((turn + step) % count).ok();
    (0..count)
        .filter_map(|step| group.ready.get(at(step)?).copied())
        .find(|index| !tried.contains(index))
        .or_else(|| group.ready.get(at(0)?).copied())
}

/// Where an endpoint is dialled; `None` if only through what this proxy cannot do yet.
pub(crate) fn address(endpoint: &GroupEndpoint) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip(&endpoint.endpoint)?, endpoint.port))
}

/// The address of an endpoint, if it is dialled directly.
pub(crate) fn ip(endpoint: &Endpoint) -> Option<IpAddr> {
    match endpoint.address {
        EndpointAddress::Ip(ip) => Some(ip),
        EndpointAddress::Dns(_) | EndpointAddress::Gateway(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ironmesh_model::service::Protocol;

    use super::*;
    use crate::tests::world::{endpoint, reviews};

    /// A group of `reviews` at these addresses; those at odd places are not ready.
    fn group(headless: bool, addresses: &[SocketAddr]) -> EndpointGroup {
        let mut service = reviews(Protocol::Http, Vec::new()).service;
        service.headless = headless;
        let endpoints = addresses.iter().map(|address| GroupEndpoint {
            endpoint: Arc::new(endpoint("v1", *address, false)),
            port: address.port(),
        });
        EndpointGroup {
            service: Arc::new(service),
            port: 9080,
            protocol: Protocol::Http,
            subset: None,
            endpoints: endpoints.collect(),
            ready: (0..addresses.len() as u32).filter(|index| index % 2 == 0).collect(),
            cursor: Arc::default(),
        }
    }

    #[test]
    fn callers_of_a_headless_service_get_the_endpoint_that_they_dialled() {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|a| a.parse().unwrap());
        let headless = group(true, &addresses);
        for (index, dialled) in (0..).zip(addresses) {
            assert_eq!(pick(&headless, &[], dialled), Some(index), "ready or not");
            assert_eq!(pick(&headless, &[index], dialled), None, "it was tried, others are not it");
        }
        let elsewhere = "10.0.0.9:80".parse().unwrap();
        let virtual_address = group(false, &addresses);
        for group in [headless, virtual_address] {
            let turns: Vec<_> = (0..4).map(|_| pick(&group, &[], elsewhere)).collect();
            assert_eq!(turns, [Some(0), Some(2), Some(0), Some(2)]);
        }
    }
}
