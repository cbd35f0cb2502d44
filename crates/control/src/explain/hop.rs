//! What is said about one proxy on the way.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::object::value as object;
use ironmesh_model::group::Members;
use ironmesh_model::policy::{MtlsMode, ProxyProtocol, TlsMode, Tunnel};
use ironmesh_model::service::{EndpointAddress, UpstreamTls};
use ironmesh_model::view::LinkedBackend;
use ironmesh_model::{Decision, Draw, Group, ListenerKind, Member, Plan, Reason, ResourceKey};

use super::known::{Known, NOW};
use super::proxy::{Call, Proxy, Walked};
use crate::api::explain::{
    BackendItem, EndpointItem, Hop, MirrorItem, ResourceItem, ResourceState, RetryItem,
};
use crate::plane::Plane;

/// Describes what a proxy does with a call, but for what depends on the next hop.
pub(super) fn describe(
    plane: &Plane,
    proxy: &Proxy<'_>,
    walked: &Walked,
    known: &Known,
    call: &Call,
) -> Hop {
    let decision = &walked.decision;
    let response_code = match &decision.plan {
        Plan::Answer(code) => Some(*code).filter(|code| *code != 0),
        _ => None,
    };
    let (timeout, retry) = terms(walked);
    let rewritten_path = decision.rewritten_target(&call.target);
    Hop {
        workload: format!("{}.{}", object::name(proxy.pod), object::namespace(proxy.pod)),
        listener: walked.listener.word().to_owned(),
        method: call.method.clone(),
        authority: call.authority.clone(),
        path: call.target.clone(),
        events: walked.events.clone(),
        reason: decision.reason,
        reason_text: in_words(decision.reason),
        response_flags: decision.reason.flag().to_owned(),
        response_code,
        route: decision.route_name(),
        version: decision.route_version().map(|version| version.to_string()),
        subset: decision.backend().and_then(|b| b.subset.as_deref()).map(str::to_owned),
        upstream_cluster: cluster(walked),
        endpoint: None,
        endpoints_not_known: known.not_known.clone(),
        draw: walked.draw,
        backends: backends(walked, known),
        tls: None,
        mtls_mode: None,
        timeout,
        retry,
        delay: decision.delay(walked.draw.unwrap_or(Draw(0))),
        mirrors: mirrors(walked),
        answer_headers: walked.answer_headers.clone(),
        rewritten_path: rewritten_path.filter(|path| *path != call.target),
        rewritten_authority: decision.rewritten_authority().map(str::to_owned),
        headers: decision.header_ops().cloned().collect(),
        resources: resources(plane, proxy),
        notes: notes(proxy, walked),
    }
}

/// What of the way is in none of the other fields.
fn notes(proxy: &Proxy<'_>, walked: &Walked) -> Vec<String> {
    let mut notes = proxy.notes();
    let group = walked.decision.group().filter(|_| matches!(walked.decision.plan, Plan::Forward));
    let Some(policy) = group.map(|group| group.policy()) else { return notes };
    let traffic = &policy.traffic;
    if let Some(version) = traffic.proxy_protocol {
        let version = match version {
            ProxyProtocol::V1 => "V1",
            ProxyProtocol::V2 => "V2",
        };
        notes.push(format!("the endpoint is told who calls by the PROXY protocol, {version}"));
    }
    if let Some(Tunnel { host, port }) = traffic.tunnel.as_ref().filter(|_| !walked.is_read) {
        notes.push(format!("the endpoint is asked by CONNECT for a tunnel to {host}:{port}"));
    }
    notes
}

/// How long a request that is forwarded may take, and when it is tried again: as it asks itself, else
/// as the rule says.
fn terms(walked: &Walked) -> (Option<Duration>, Option<RetryItem>) {
    let (decision, asked) = (&walked.decision, &walked.asked);
    if !matches!(decision.plan, Plan::Forward) {
        return (None, None);
    }
    let timeout = match asked.timeout {
        Some(asked) => Some(asked).filter(|timeout| !timeout.is_zero()),
        None => decision.timeout(),
    };
    let own = asked.retry.as_ref();
    let retry = own.or(decision.retry()).map(|retry| RetryItem {
        attempts: retry.attempts,
        on: retry.on.iter().map(ToString::to_string).collect(),
        per_try_timeout: asked.per_try_timeout.or(retry.per_try_timeout),
        backoff: retry.backoff,
        avoids_tried: retry.avoids_tried,
        leaves_localities: retry.leaves_localities,
        asked: own.is_some(),
    });
    (timeout, retry)
}

/// A reason for who is reading the explanation already.
fn in_words(reason: Reason) -> String {
    let text = reason.text();
    text.split_once("; see `ironmesh explain`").map_or(text, |(text, _)| text).to_owned()
}

/// Turns a hop into one that the proxy does not let through.
pub(super) fn refuse(hop: &mut Hop, reason: Reason) {
    hop.reason = reason;
    hop.reason_text = in_words(reason);
    hop.response_flags = reason.flag().to_owned();
    hop.response_code = Some(reason.status()).filter(|status| *status != 0);
}

/// The word for how a connection is made.
pub(super) fn tls_word(mutual: bool) -> &'static str {
    if mutual { "mutual" } else { "plaintext" }
}

/// The word for how an endpoint is spoken to.
pub(super) fn upstream_word(tls: &UpstreamTls) -> &'static str {
    match tls {
        UpstreamTls::Given(given) if given.mode == TlsMode::Simple => "simple",
        // Mutual, but not the mesh's.
        UpstreamTls::Given(_) => "mutual, by the DestinationRule's certificate",
        _ => tls_word(tls.expected().is_some()),
    }
}

/// The word for what an inbound listener takes, as PeerAuthentication has it, if it was decided.
pub(super) fn mode_word(decision: &Decision) -> Option<&'static str> {
    match (&decision.plan, decision.reason) {
        (Plan::ToWorkload(mode), _) => Some(mode.word()),
        (_, Reason::PlaintextRefused) => Some(MtlsMode::Strict.word()),
        _ => None,
    }
}

/// What the request is sent to, as Istio names clusters.
fn cluster(walked: &Walked) -> Option<String> {
    let decision = &walked.decision;
    match (&decision.plan, walked.listener) {
        (Plan::ToWorkload(_), ListenerKind::Inbound) => {
            Some(format!("inbound|{}||", walked.destination.port()))
        }
        (Plan::Passthrough, _) => Some("PassthroughCluster".to_owned()),
        _ => decision.backend().map(|backend| {
            let subset = backend.subset.as_deref().unwrap_or_default();
            format!("outbound|{}|{subset}|{}", backend.port, backend.host)
        }),
    }
}

/// All backends of the rule that won, or the service's own if none did.
fn backends(walked: &Walked, known: &Known) -> Vec<BackendItem> {
    let decision = &walked.decision;
    let chosen = decision.backend_index();
    match (decision.backends(), decision.backend()) {
        (Some(backends), _) => (0u32..)
            .zip(backends)
            .map(|(index, backend)| backend_item(backend, known, chosen == Some(index)))
            .collect(),
        (None, Some(own)) => vec![backend_item(own, known, true)],
        (None, None) => Vec::new(),
    }
}

/// The copies that the winning rule asks for.
fn mirrors(walked: &Walked) -> Vec<MirrorItem> {
    let mirrors = walked.decision.mirrors(walked.draw.unwrap_or(Draw(0)));
    let items = mirrors.map(|(mirror, to, drawn)| MirrorItem {
        host: to.host.to_string(),
        port: to.port,
        subset: to.subset.as_deref().map(str::to_owned),
        share: mirror.share.to_string(),
        drawn,
        unusable: to.group.as_ref().err().copied(),
    });
    items.collect()
}

fn backend_item(backend: &LinkedBackend, known: &Known, chosen: bool) -> BackendItem {
    let group = backend.group.as_ref();
    BackendItem {
        host: backend.host.to_string(),
        port: backend.port,
        subset: backend.subset.as_deref().map(str::to_owned),
        weight: backend.weight,
        chosen,
        unusable: group.err().copied(),
        balancer: group.ok().map(|group| group.policy().traffic.balancer().to_string()),
        prefers: group
            .ok()
            .and_then(|group| group.policy().near.as_ref().map(|near| near.preference.to_string())),
        endpoints: group
            .map(|group| {
                let members = group.members();
                let item = |member: &Arc<Member>| endpoint_item(group, &members, member, known);
                members.all.iter().map(item).collect()
            })
            .unwrap_or_default(),
    }
}

fn endpoint_item(group: &Group, members: &Members, member: &Member, known: &Known) -> EndpointItem {
    let rank = members.rank(member);
    let Member { endpoint, port, .. } = member;
    let address = match &endpoint.address {
        EndpointAddress::Ip(ip) => std::net::SocketAddr::new(*ip, *port).to_string(),
        EndpointAddress::Dns(name) => format!("{name}:{port}"),
        EndpointAddress::Gateway(ip, name) => format!("{name}:{port} through {ip}"),
    };
    EndpointItem {
        address,
        workload: format!("{}.{}", endpoint.workload.name, endpoint.workload.namespace),
        ready: endpoint.ready,
        tls: upstream_word(&member.tls).to_owned(),
        identity: member.tls.expected().map(ToString::to_string),
        locality: endpoint.locality.to_string(),
        rank,
        may_be_picked: endpoint.ready && rank.is_some() && !group.is_ejected(member, NOW),
        state: member.address().and_then(|address| known.state(group, address)),
    }
}

/// What the proxy's decision rests on, and what the real one has of it.
fn resources(plane: &Plane, proxy: &Proxy<'_>) -> Vec<ResourceItem> {
    let server = &plane.mesh.server;
    let uid = object::uid(proxy.pod);
    let connected = server.is_connected(uid);
    let mut held: Vec<_> = proxy.view().held().collect();
    held.sort_by_key(|(key, _)| (*key).clone());
    let item = |key: &ResourceKey, version: ironmesh_model::Version| {
        let holding = server.holding(uid, key);
        let acknowledged = holding.and_then(|holding| holding.acknowledged);
        ResourceItem {
            resource: key.to_string(),
            version: version.to_string(),
            acknowledged: acknowledged.map(|version| version.to_string()),
            state: match (connected, holding) {
                (false, _) => ResourceState::NotConnected,
                (true, None) => ResourceState::NotSubscribed,
                (true, Some(_)) if acknowledged == Some(version) => ResourceState::Acknowledged,
                (true, Some(_)) => ResourceState::Pending,
            },
        }
    };
    held.into_iter().map(|(key, held)| item(key, held.version)).collect()
}
