//! What enters a workload.

use super::{Decision, Plan, at_address};
use crate::policy::{InboundMode, MtlsMode};
use crate::reason::Reason;
use crate::recorder::{Event, Recorder};
use crate::traffic::{Connection, Seen};
use crate::view::View;

/// What enters a workload: what its policies let in.
pub(super) fn entering<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    recorder: &mut R,
) -> Decision {
    let linked = match at_address(view, connection, recorder) {
        Ok(found) => found,
        Err(undecided) => return undecided,
    };
    let port = connection.destination.port();
    let said =
        linked.applies.as_ref().and_then(|of| of.inbound.said(port, &connection.local.labels));
    let otherwise = view.settings().mtls_mode;
    let mode = said.map_or(otherwise, |said| said.mtls);
    recorder.record(|| Event::Takes { mode, port, by: said_by(said) });
    if mode == MtlsMode::Strict && connection.peer == Seen::Absent {
        return Decision::answer(Reason::PlaintextRefused, linked);
    }
    Decision::of(Plan::ToWorkload(mode), Reason::Inbound, linked)
}

fn said_by(said: Option<InboundMode<'_>>) -> String {
    match said {
        Some(InboundMode { policy, of_port: true, .. }) => format!("{policy}, for this port"),
        Some(InboundMode { policy, of_port: false, .. }) => policy.to_string(),
        None => "mtlsMode of the mesh, as no policy says anything".to_owned(),
    }
}
