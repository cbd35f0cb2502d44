//! Why a request could not be completed, whose doing it was, and whether it may be tried again.

use ironmesh_model::Reason;

/// A failure of one attempt or of the request as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", reason.text())]
pub(crate) struct Failure {
    /// The reason, as the log and the client are told.
    pub(crate) reason: Reason,
    /// How far the request had come.
    pub(crate) stage: Stage,
    /// Whose doing it was.
    pub(crate) blame: Blame,
}

/// How far a request had come when it failed; decides what may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Nobody but the mesh has seen it: another endpoint may be tried, whatever the method.
    NotSent,
    /// The connection ended without a byte of an answer. If it was a kept one, then most likely
    /// before the request came: an idempotent one may be tried again.
    Unseen,
    /// It was sent and no answer came.
    Sent,
    /// The client has got a part of the answer: nothing can be tried any more.
    AnswerBegun,
}

/// Whose doing a failure was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
    /// The mesh's own: a rule, a limit, a certificate.
    Mesh,
}

impl Failure {
    /// A failure of the client.
    pub(crate) fn downstream(reason: Reason) -> Self {
        Self { reason, stage: Stage::Sent, blame: Blame::Downstream }
    }

    /// A failure of the endpoint.
    pub(crate) fn upstream(reason: Reason, stage: Stage) -> Self {
        Self { reason, stage, blame: Blame::Upstream }
    }

    /// A refusal by the mesh, before anything was sent.
    pub(crate) fn mesh(reason: Reason) -> Self {
        Self { reason, stage: Stage::NotSent, blame: Blame::Mesh }
    }

    /// The same failure, of a request that the endpoint cannot be believed to have missed.
    pub(crate) fn seen(self) -> Self {
        match self.stage {
            Stage::Unseen => Self { stage: Stage::Sent, ..self },
            _ => self,
        }
    }

    /// The same failure, after the client has got a part of the answer.
    pub(crate) fn after_answer_began(self) -> Self {
        Self { stage: Stage::AnswerBegun, ..self }
    }
}
