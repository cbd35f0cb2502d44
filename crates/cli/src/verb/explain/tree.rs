//! An explanation as text: one paragraph a hop, one line a step.

use ironmesh_control::api::explain::{
    BackendItem, EndpointItem, Explanation, Hop, MirrorItem, ResourceState, RetryItem,
};
use ironmesh_control::api::mesh::EndpointState;
use ironmesh_model::Event;
use ironmesh_model::route::{HeaderOp, HeaderOps};

use crate::verb::proxy_config::endpoints;

/// The whole text.
pub(super) fn render(explanation: &Explanation) -> String {
    let mut text = format!("{} {}\n", explanation.method, explanation.url);
    for (at, hop) in explanation.hops.iter().enumerate() {
        text.push_str(&format!("\n{}. {} ({})\n", at + 1, hop.workload, hop.listener));
        for line in lines(hop) {
            text.push_str(&format!("   {line}\n"));
        }
    }
    text.push_str(&format!("\n{}\n", explanation.outcome));
    text
}

fn lines(hop: &Hop) -> Vec<String> {
    let mut lines = vec![format!("{} {}{}", hop.method, hop.authority, hop.path)];
    lines.extend(hop.notes.iter().map(|note| format!("note: {note}")));
    for event in &hop.events {
        self::event(&mut lines, event);
    }
    lines.push(format!("=> {}", hop.reason_text));
    if let Some(code) = hop.response_code {
        let (reason, flags) = (hop.reason, &hop.response_flags);
        lines.push(format!("=> answered here: {code}, reason {reason}, flag {flags}"));
    }
    for backend in &hop.backends {
        self::backend(&mut lines, backend, hop.endpoint.as_deref());
    }
    for mirror in &hop.mirrors {
        self::mirror(&mut lines, mirror);
    }
    if let Some(why) = &hop.endpoints_not_known {
        lines.push(format!("note: whether endpoints are ejected is not known: {why}"));
    }
    changes(&mut lines, hop);
    match (&hop.mtls_mode, &hop.tls) {
        (Some(mode), Some(tls)) => lines.push(format!("mTLS: takes {mode}, spoken to in {tls}")),
        (Some(mode), None) => lines.push(format!("mTLS: takes {mode}")),
        (None, Some(tls)) => lines.push(format!("mTLS: {tls} to the next hop")),
        (None, None) => {}
    }
    if let Some(delay) = hop.delay {
        lines.push(format!("held back for {delay:?} first"));
    }
    if let Some(timeout) = hop.timeout {
        lines.push(format!("timeout: {timeout:?}"));
    }
    if let Some(retry) = &hop.retry {
        lines.push(retries(retry));
    }
    resources(&mut lines, hop);
    lines
}

fn event(lines: &mut Vec<String>, event: &Event) {
    match event {
        Event::Resolved { key, outcome } => lines.push(format!("looked up {key}: {outcome}")),
        Event::Takes { mode, port, by } => {
            lines.push(format!("takes {} at port {port}: {by}", mode.word()));
        }
        Event::Lost { route, why, alternatives } if alternatives.is_empty() => {
            lines.push(format!("  -  {route}: {why}"));
        }
        Event::Lost { route, alternatives, .. } => {
            lines.push(format!("  -  {route}: none of {} alternatives", alternatives.len()));
            lines.extend(alternatives.iter().map(|why| format!("       {why}")));
        }
        Event::Won { route, by } => lines.push(format!("  +  {route}: {by}")),
        Event::Drawn { what, share, taken } => {
            let mark = if *taken { '+' } else { '-' };
            let this = if *taken { "this one too" } else { "not this one" };
            lines.push(format!("     {mark} {what} for {share} of the requests: {this}"));
        }
        Event::Weighted { choices, drawn, chosen } => {
            let sum: u64 = choices.iter().map(|choice| u64::from(choice.weight)).sum();
            lines.push(format!("     of {sum} parts {drawn} was drawn:"));
            for (at, choice) in choices.iter().enumerate() {
                let mark = if at == *chosen { '+' } else { '-' };
                let name = backend_name(&choice.host, choice.subset.as_deref());
                lines.push(format!("       {mark} {name}: {}", choice.weight));
            }
        }
    }
}

fn backend(lines: &mut Vec<String>, backend: &BackendItem, endpoint: Option<&str>) {
    let BackendItem { host, port, subset, weight, chosen, unusable, .. } = backend;
    let BackendItem { balancer, prefers, endpoints, .. } = backend;
    let mut line =
        format!("backend {}", backend_name(&format!("{host}:{port}"), subset.as_deref()));
    if *weight > 0 {
        line.push_str(&format!(", weight {weight}"));
    }
    if *chosen {
        line.push_str(", followed");
    }
    if let Some(balancer) = balancer {
        line.push_str(&format!(", by {balancer}"));
    }
    if let Some(prefers) = prefers {
        line.push_str(&format!(", near ones first (by {prefers})"));
    }
    if let Some(reason) = unusable {
        line.push_str(&format!(": {}", reason.text()));
    }
    lines.push(line);
    for item in endpoints {
        let mark = if *chosen && endpoint == Some(item.address.as_str()) { '>' } else { ' ' };
        let ready = match &item.state {
            Some(state) => state_of(state),
            None if item.ready => "ready".to_owned(),
            None => "not ready".to_owned(),
        };
        let (address, workload, tls) = (&item.address, &item.workload, &item.tls);
        let identity = item.identity.as_ref().map(|id| format!(" as {id}")).unwrap_or_default();
        let place = if prefers.is_some() { place(item) } else { String::new() };
        lines.push(format!("  {mark} {address}  {workload}  {ready}  {tls}{identity}{place}"));
    }
}

/// Where an endpoint is, and how it stands for that.
fn place(item: &EndpointItem) -> String {
    let locality = if item.locality.is_empty() { "somewhere" } else { &item.locality };
    match item.rank {
        Some(rank) => format!("  {locality}, rank {rank}"),
        None if item.ready => format!("  {locality}, not for this caller"),
        None => format!("  {locality}"),
    }
}

fn retries(retry: &RetryItem) -> String {
    let RetryItem { attempts, on, per_try_timeout, backoff, avoids_tried, .. } = retry;
    let RetryItem { leaves_localities, asked, .. } = retry;
    if *attempts == 0 {
        return "retries: none".to_owned();
    }
    let mut line = format!("retries: up to {attempts}, on {}", on.join(", "));
    if let Some(longest) = per_try_timeout {
        line.push_str(&format!("; {longest:?} for each attempt"));
    }
    line.push_str(&format!("; pauses of up to {backoff:?}, doubled each time"));
    if !avoids_tried {
        line.push_str("; at endpoints that were tried, too");
    }
    if *leaves_localities {
        line.push_str("; every second one in another locality");
    }
    if *asked {
        line.push_str("; as the request itself asks");
    }
    line
}

fn mirror(lines: &mut Vec<String>, mirror: &MirrorItem) {
    let MirrorItem { host, port, subset, share, drawn, unusable } = mirror;
    let name = backend_name(&format!("{host}:{port}"), subset.as_deref());
    let sent = match (unusable, drawn) {
        (Some(reason), _) => reason.text(),
        (None, true) => "this one too",
        (None, false) => "not this one",
    };
    lines.push(format!("copy to {name} of {share} of the requests: {sent}"));
}

/// How an endpoint stands with the proxy.
fn state_of(state: &EndpointState) -> String {
    let mut text = endpoints::status(state);
    let counts = [("connections", state.connections), ("requests", state.requests)];
    for (what, count) in counts {
        text.push_str(&count.map(|count| format!(", {count} {what}")).unwrap_or_default());
    }
    if state.failures > 0 {
        text.push_str(&format!(", {} failures", state.failures));
    }
    text
}

/// What is changed on the way.
fn changes(lines: &mut Vec<String>, hop: &Hop) {
    if let Some(path) = &hop.rewritten_path {
        lines.push(format!("path becomes {path}"));
    }
    if let Some(authority) = &hop.rewritten_authority {
        lines.push(format!("authority becomes {authority}"));
    }
    for (name, value) in &hop.answer_headers {
        lines.push(format!("answer gets {name}: {value}"));
    }
    for HeaderOps { request, response } in &hop.headers {
        header_op(lines, "request", request);
        header_op(lines, "response", response);
    }
}

fn header_op(lines: &mut Vec<String>, of: &str, op: &HeaderOp) {
    for name in &op.remove {
        lines.push(format!("{of} header {name} is removed"));
    }
    for (name, value) in &op.set {
        lines.push(format!("{of} header {name} is set to {value:?}"));
    }
    for (name, value) in &op.add {
        lines.push(format!("{of} header {name} gets {value:?} added"));
    }
}

/// Says how far the proxy is, if it is not where this explanation is.
fn resources(lines: &mut Vec<String>, hop: &Hop) {
    if hop.resources.iter().any(|item| item.state == ResourceState::NotConnected) {
        lines.push("note: the proxy is not connected to the control plane now".to_owned());
    }
    for item in &hop.resources {
        let state = match item.state {
            ResourceState::Acknowledged | ResourceState::NotConnected => continue,
            ResourceState::Pending => "is on its way to the proxy",
            ResourceState::NotSubscribed => "is not held yet; the first request waits for it",
        };
        lines.push(format!("note: {} (version {}) {state}", item.resource, item.version));
    }
}

fn backend_name(host: &str, subset: Option<&str>) -> String {
    match subset {
        Some(subset) => format!("{host} subset {subset}"),
        None => host.to_owned(),
    }
}
