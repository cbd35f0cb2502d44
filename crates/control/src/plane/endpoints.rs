//! What a proxy knows of the endpoints that it uses, asked of it.

use std::sync::Arc;

use ironmesh_dialects::object::value as object;
use ironmesh_model::group::{GroupReport, MemberReport};
use serde_json::Value;

use super::{Plane, Refused};
use crate::api::mesh::{EndpointState, GroupEndpoint, GroupItem, ProxyEndpoints};

/// What the proxy of a pod tells of its groups.
pub(crate) async fn endpoints(
    plane: &Plane,
    namespace: &str,
    name: &str,
) -> Result<ProxyEndpoints, Refused> {
    let pods = plane.source.pods();
    let is_it =
        |pod: &&Arc<Value>| object::namespace(pod) == namespace && object::name(pod) == name;
    let pod = pods.iter().find(is_it).ok_or_else(|| Refused::NoPod(name.to_owned()))?;
    Ok(match plane.mesh.server.ask(object::uid(pod), Vec::new()).await {
        Ok(told) => ProxyEndpoints {
            not_known: None,
            groups: told.groups.into_iter().map(group).collect(),
            left_out: told.left_out,
        },
        Err(error) => {
            ProxyEndpoints { not_known: Some(error.to_string()), ..ProxyEndpoints::default() }
        }
    })
}

fn group(report: GroupReport) -> GroupItem {
    let GroupReport { key, usage, members } = report;
    let endpoint = |member: &MemberReport| GroupEndpoint {
        address: member.address,
        workload: format!("{}.{}", member.workload, member.namespace),
        state: state(member),
    };
    GroupItem {
        host: key.service.hostname,
        port: key.port,
        subset: key.subset,
        connections: usage.map(|usage| usage.connections),
        waiting: usage.map(|usage| usage.waiting),
        endpoints: members.iter().map(endpoint).collect(),
    }
}

/// How an endpoint stands with the proxy that told of it.
pub(crate) fn state(member: &MemberReport) -> EndpointState {
    EndpointState {
        ready: member.ready,
        ejected_for_ms: u64::try_from(member.ejected_for.as_millis()).unwrap_or(u64::MAX),
        failures_in_a_row: member.failures_in_a_row,
        failures: member.failures,
        connections: member.load.map(|load| load.connections),
        requests: member.load.map(|load| load.requests),
    }
}
