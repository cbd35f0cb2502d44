//! What became of a request or a connection: written once, read by metrics and the access log.

use std::net::SocketAddr;
use std::sync::Arc;

use ironmesh_model::service::Endpoint;
use ironmesh_model::view::LinkedBackend;
use ironmesh_model::{Decision, Member, Plan, Reason};
use tokio::time::Instant;

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// When its head was complete.
    pub(crate) started: Instant,
    /// When the endpoint's answer began, if it did.
    pub(crate) first_byte: Option<Instant>,
    /// Status that the client was given; 0: none.
    pub(crate) status: u16,
    /// Status of a gRPC answer, if it was known with its head.
    pub(crate) grpc_status: Option<u8>,
    /// Why.
    pub(crate) reason: Reason,
    /// Whether it was held back on purpose.
    pub(crate) delayed: bool,
    /// Whether it would have been tried again, if as many attempts had not been made as are allowed.
    pub(crate) exhausted: bool,
    /// The same, if not as many retries had been under way as the destination allows.
    pub(crate) overflowed: bool,
    /// What was decided; none if it did not come that far.
    pub(crate) decision: Option<Decision>,
    /// The endpoint that was tried last.
    pub(crate) member: Option<Arc<Member>>,
    /// Address that was tried last.
    pub(crate) upstream: Option<SocketAddr>,
    /// Our own address towards it.
    pub(crate) upstream_local: Option<SocketAddr>,
    /// Whether it was spoken to by mutual TLS.
    pub(crate) upstream_tls: bool,
    /// Attempts that were made.
    pub(crate) attempts: u32,
    /// Bytes of the request's body.
    pub(crate) request_bytes: u64,
    /// Bytes of the answer's body.
    pub(crate) response_bytes: u64,
}

impl Outcome {
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            first_byte: None,
            status: 0,
            grpc_status: None,
            reason: Reason::NotConfigured,
            delayed: false,
            exhausted: false,
            overflowed: false,
            decision: None,
            member: None,
            upstream: None,
            upstream_local: None,
            upstream_tls: false,
            attempts: 0,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// Notes what was decided.
    pub(crate) fn decided(&mut self, decision: Decision) {
        self.reason = decision.reason;
        self.decision = Some(decision);
    }

    /// The backend that was chosen.
    pub(crate) fn backend(&self) -> Option<&LinkedBackend> {
        self.decision.as_ref()?.backend()
    }

    /// The endpoint that was tried last.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        Some(&*self.member.as_ref()?.endpoint)
    }

    /// Whether it went, or would have gone, to where the client dialled.
    pub(crate) fn is_passthrough(&self) -> bool {
        self.decision.as_ref().is_some_and(|d| d.plan == Plan::Passthrough)
    }
}
