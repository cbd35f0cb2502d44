//! Choosing an endpoint of a group.

use std::net::{IpAddr, SocketAddr};

use ironmesh_model::service::{Endpoint, EndpointAddress};
use ironmesh_model::view::{EndpointGroup, GroupEndpoint};
use smallvec::SmallVec;

/// Endpoints that were tried for one request and that it should not meet again.
pub(crate) type Tried = SmallVec<[u32; 4]>;

/// The next endpoint in turn, by index into the group's: strictly cyclic over the ready ones, as
/// the cursor is shared by all workers. Those in `tried` are passed over while there are others.
/// `dialled` is used for headless services, whose callers choose the endpoint themselves.
pub(crate) fn pick(group: &EndpointGroup, tried: &[u32], dialled: SocketAddr) -> Option<u32> {
    if group.ready.is_empty() {
        return None;
    }
    if group.service.headless
        && tried.is_empty()
        && let Some(own) =
            group.ready.iter().copied().find(|index| {
                group.endpoints.get(*index as usize).and_then(address) == Some(dialled)
            })
    {
        return Some(own);
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
