//! Explaining a request: the same decisions that the proxies would make, written down.
//!
//! For each proxy on the way a view is filled as the proxy would fill it: whatever the decision
//! needs is taken from the snapshot, encoded and decoded as on the wire. Nothing is matched here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::object::value as object;
use ironmesh_model::entry::Sender;
use ironmesh_model::group::Ask;
use ironmesh_model::service::Discovery;
use ironmesh_model::topology::Topology;
use ironmesh_model::{
    Decision, Draw, Identity, ListenerKind, Member, Plan, Reason, Snapshot, Tried,
};
use serde_json::Value;

use crate::api::explain::{ExplainRequest, Explanation, Hop};
use crate::inject;
use crate::plane::{Plane, Refused};

mod edge;
mod hop;
mod known;
mod origin;
mod proxy;
mod url;

use known::{Known, NOW};
use origin::Origin;
use proxy::{Call, Proxy, Walked};

/// Follows a request from its caller to its destination.
///
/// # Errors
///
/// If the URL cannot be read, or there is no such pod or gateway.
pub(crate) async fn explain(
    plane: &Plane,
    request: &ExplainRequest,
) -> Result<Explanation, Refused> {
    let longest = plane.limits.control.snapshot_wait;
    let published = plane.mesh.at(plane.source.version(), longest).await?;
    let url = url::Url::parse(&request.url).map_err(|e| Refused::BadRequest(e.to_string()))?;
    let origin = Origin::find(&*plane.source, &request.from, &request.namespace)?;
    let mut call = Call::new(request, &url);
    let mut hops = Vec::new();
    let snapshot = &*published.snapshot;
    let mut proxy = Proxy::new(snapshot, &origin.pod);
    let dialled = || origin::destination(snapshot, object::namespace(&origin.pod), &url);
    let Some(listener) = origin.listener else {
        let next = proxy.plain(dialled()).map(|address| Next { address, from: None });
        let ending = follow(plane, snapshot, next, &mut call, &mut hops);
        let text = "the caller has no proxy: the node balances over the Service's pods";
        let outcome = format!("{text}; {ending}");
        return Ok(Explanation {
            method: request.method.clone(),
            url: request.url.clone(),
            hops,
            outcome,
        });
    };
    let destination = match listener {
        ListenerKind::Gateway => {
            let places = edge::places(&*plane.source, snapshot, &origin.pod, origin.ip());
            SocketAddr::new(origin.ip(), proxy.enter_gateway(url.port, url.is_tls, places)?)
        }
        ListenerKind::Outbound | ListenerKind::Inbound => dialled(),
    };
    let text = origin.ip().to_string();
    let sender = Sender {
        listener,
        is_member: false,
        address: &text,
        certificate: "",
        topology: proxy.topology(),
        https: url.is_tls && listener == ListenerKind::Gateway,
    };
    let client = SocketAddr::new(origin.ip(), 0);
    let walked = proxy.walk(&sender, None, (client, destination), &mut call, request.draw);
    let known = Known::ask(plane, &mut proxy, &walked.decision).await;
    let (hop, next) = first_hop(plane, &mut proxy, &walked, &known, &mut call);
    hops.push(hop);
    let outcome = follow(plane, snapshot, next, &mut call, &mut hops);
    Ok(Explanation { method: request.method.clone(), url: request.url.clone(), hops, outcome })
}

/// Where a request goes from a proxy.
struct Next {
    address: SocketAddr,
    /// Whose identity it proves there, by mutual TLS.
    from: Option<Identity>,
}

/// The hop at the caller's proxy or the gateway. Applies its rewrites to the call.
fn first_hop(
    plane: &Plane,
    proxy: &mut Proxy<'_>,
    walked: &Walked,
    known: &Known,
    call: &mut Call,
) -> (Hop, Option<Next>) {
    let mut hop = hop::describe(plane, proxy, walked, known, call);
    if let Some(reason) = walked.refused {
        hop::refuse(&mut hop, reason);
        return (hop, None);
    }
    let decision = &walked.decision;
    let next = match &decision.plan {
        Plan::Forward => match followed(walked) {
            Some((member, address)) => {
                let mutual = member.tls.expected().is_some();
                hop.endpoint = Some(address.to_string());
                hop.tls = Some(hop::upstream_word(&member.tls).to_owned());
                Some(Next { address, from: mutual.then(|| proxy.identity.clone()) })
            }
            None if goes_where_dialled(decision) => {
                hop.endpoint = Some(place(walked.destination, call));
                hop.tls = Some(hop::tls_word(false).to_owned());
                Some(Next { address: walked.destination, from: None })
            }
            None => {
                hop::refuse(&mut hop, Reason::NoEndpoints);
                None
            }
        },
        Plan::Passthrough => {
            // What the proxy dials as it is the node may still balance.
            let address = proxy.plain(walked.destination);
            let mutual = decision.upstream_tls().expected().is_some();
            hop.endpoint = Some(place(walked.destination, call));
            hop.tls = Some(hop::tls_word(mutual).to_owned());
            if address.is_none() {
                hop::refuse(&mut hop, Reason::ConnectFailed);
            }
            let from = mutual.then(|| proxy.identity.clone());
            address.map(|address| Next { address, from })
        }
        Plan::ToWorkload(_) => {
            let at = decision.at_workload(walked.destination);
            if at != walked.destination {
                hop.endpoint = Some(at.to_string());
            }
            None
        }
        Plan::Answer(_) | Plan::ReadHello | Plan::Needs(_) => None,
    };
    call.rewrite(decision);
    (hop, next)
}

/// Whether what is forwarded goes to where its caller dialled, or to the host that it names, which its
/// resolver and that of its proxy know.
fn goes_where_dialled(decision: &Decision) -> bool {
    let goes = |discovery| matches!(discovery, Discovery::Dialled | Discovery::Named);
    decision.group().is_some_and(|group| goes(group.policy().service.discovery))
}

/// An address in words: of one that only the caller's resolver knows, the name.
fn place(address: SocketAddr, call: &Call) -> String {
    if address.ip().is_unspecified() { call.dialled.clone() } else { address.to_string() }
}

/// The endpoint that is followed: the one that a proxy would pick now for this draw. Turns go on, and
/// what is under way changes, so that a request may get another, unless a hash chooses.
fn followed(walked: &Walked) -> Option<(Arc<Member>, SocketAddr)> {
    let hash = walked.hashed.as_ref().map(|hashed| hashed.hash);
    picked(&walked.decision, walked.destination, walked.draw.unwrap_or(Draw(0)), hash)
}

fn picked(
    decision: &Decision,
    dialled: SocketAddr,
    draw: Draw,
    hash: Option<u64>,
) -> Option<(Arc<Member>, SocketAddr)> {
    let ask = Ask { dialled, tried: &Tried::default(), draw, hash };
    let member = decision.group()?.peek(&ask, || NOW).ok()?;
    let address = member.address()?;
    Some((member, address))
}

/// The rest of the way: into the destination's proxy, if it has one. Returns how it ends.
fn follow(
    plane: &Plane,
    snapshot: &Snapshot,
    next: Option<Next>,
    call: &mut Call,
    hops: &mut Vec<Hop>,
) -> String {
    let Some(Next { address, from }) = next else {
        return match hops.last() {
            Some(Hop { response_code: Some(code), reason_text, .. }) => {
                format!("answered with {code}: {reason_text}")
            }
            Some(hop) => format!("refused: {}", hop.reason_text),
            None => "no ready pod is behind that address: the connection is refused".to_owned(),
        };
    };
    let Some(pod) = pod_at(plane, address.ip()) else {
        return format!("goes to {}, which is not in the mesh", place(address, call));
    };
    let name = format!("{}.{}", object::name(&pod), object::namespace(&pod));
    if !inject::has_sidecar(&pod) || inject::is_router(&pod) {
        return format!("reaches {name} at {address} in plaintext; the pod has no sidecar");
    }
    let mutual = from.is_some();
    let mut proxy = Proxy::new(snapshot, &pod);
    let by = |from| format!("By={};URI={from}", proxy.identity);
    let text = from.as_ref().map(by).unwrap_or_default();
    let sender = Sender {
        listener: ListenerKind::Inbound,
        is_member: mutual,
        address: "",
        certificate: &text,
        topology: Topology::default(),
        https: false,
    };
    // What comes in is not balanced, so that its client does not matter.
    let client = SocketAddr::new(address.ip(), 0);
    let walked = proxy.walk(&sender, from.as_ref(), (client, address), call, None);
    let mut hop = hop::describe(plane, &proxy, &walked, &Known::default(), call);
    hop.endpoint = Some(address.to_string());
    hop.tls = Some(hop::tls_word(mutual).to_owned());
    hop.mtls_mode = hop::mode_word(&walked.decision).map(str::to_owned);
    if let Some(reason) = walked.refused {
        hop::refuse(&mut hop, reason);
    }
    hops.push(hop);
    let refused = matches!(walked.decision.plan, Plan::Answer(_)).then_some(walked.decision.reason);
    if let Some(reason) = walked.refused.or(refused) {
        return format!("refused by {name}: {}", reason.text());
    }
    let how = if mutual { "over mutual TLS" } else { "in plaintext" };
    format!("reaches {name} at {address} {how}")
}

/// The pod that has this address.
fn pod_at(plane: &Plane, ip: IpAddr) -> Option<Arc<Value>> {
    let pods = plane.source.pods();
    let text = ip.to_string();
    pods.into_iter()
        .find(|pod| Pod::of(pod).status().pod_ip() == text && !Pod::of(pod).is_finished())
}
