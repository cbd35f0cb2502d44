//! Questions to a connected proxy about itself. Whatever it answers, if anything, takes bounded
//! memory and time, and holds up nothing that it is sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ironmesh_model::group::GroupReport;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Backend, Proxy, Server};
use crate::codec::{DecodeError, PIECE_BYTES_MAX, answer_bytes, read_report};
use crate::messages::{About, Ask, GroupsOf, Told};

/// What a proxy tells of its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsTold {
    /// The groups.
    pub groups: Vec<GroupReport>,
    /// Endpoints that found no room in the answer.
    pub left_out: u64,
}

/// Why a proxy told nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It is not connected, or left before it answered.
    #[error("the proxy is not connected to the control plane")]
    NotConnected,
    /// Others ask it already.
    #[error("the proxy has questions_max unanswered questions, which is {0}")]
    TooMany(usize),
    /// It has not answered in time; one of an earlier build never does.
    #[error("the proxy has not answered within question_wait, which is {0:?}")]
    Silent(Duration),
    /// It answers at too great a length.
    #[error("the proxy's answer is larger than answer_bytes_max, which is {0}")]
    TooLarge(usize),
    /// It says that it does not answer, and why.
    #[error("the proxy does not answer: {0}")]
    Refused(String),
    /// What it answers makes no sense.
    #[error("the proxy's answer cannot be read: {0}")]
    Unreadable(#[from] DecodeError),
}

type Answer = Result<GroupsTold, AskError>;

/// The questions to one proxy.
#[derive(Debug, Default)]
pub(super) struct Questions {
    last_id: u64,
    to_ask: VecDeque<Ask>,
    open: BTreeMap<u64, Open>,
}

/// A question that is not answered.
#[derive(Debug)]
struct Open {
    told: GroupsTold,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

impl Questions {
    fn ask(
        &mut self,
        hosts: Vec<String>,
        questions_max: usize,
    ) -> Result<(u64, oneshot::Receiver<Answer>), AskError> {
        if self.open.len() >= questions_max {
            return Err(AskError::TooMany(questions_max));
        }
        self.last_id += 1;
        let id = self.last_id;
        let (answer, answered) = oneshot::channel();
        self.to_ask.push_back(Ask { id, about: Some(About::Groups(GroupsOf { hosts })) });
        self.open.insert(id, Open { told: GroupsTold::default(), bytes: 0, answer });
        Ok((id, answered))
    }

    /// The next one that is to be sent.
    pub(super) fn next(&mut self) -> Option<Ask> {
        self.to_ask.pop_front()
    }

    fn withdraw(&mut self, id: u64) {
        self.open.remove(&id);
        self.to_ask.retain(|ask| ask.id != id);
    }

    /// Withdraws all, since the proxy has left.
    pub(super) fn clear(&mut self) {
        *self = Self { last_id: self.last_id, ..Self::default() };
    }

    /// Takes a part of an answer. What nobody has asked for, or asks for no longer, is dropped.
    pub(super) fn take(&mut self, told: Told, bytes_max: usize) {
        let (id, more) = (told.id, told.more);
        let Some(open) = self.open.get_mut(&id) else { return };
        let taken = open.take(told, bytes_max);
        if (taken.is_err() || !more)
            && let Some(open) = self.open.remove(&id)
        {
            // Whoever asked may have gone.
            let _ = open.answer.send(taken.map(|()| open.told));
        }
    }
}

impl Open {
    fn take(&mut self, part: Told, bytes_max: usize) -> Result<(), AskError> {
        if !part.refused.is_empty() {
            let plain = part.refused.chars().filter(|c| !c.is_control());
            return Err(AskError::Refused(plain.take(REFUSAL_CHARS_MAX).collect()));
        }
        self.told.left_out = self.told.left_out.saturating_add(part.left_out);
        for piece in part.groups {
            if piece.len() > PIECE_BYTES_MAX {
                return Err(AskError::TooLarge(bytes_max));
            }
            let report = read_report(&piece)?;
            self.bytes += answer_bytes(&piece, &report);
            if self.bytes > bytes_max {
                return Err(AskError::TooLarge(bytes_max));
            }
            match self.told.groups.last_mut().filter(|last| last.key == report.key) {
                Some(last) => last.members.extend(report.members),
                None => self.told.groups.push(report),
            }
        }
        Ok(())
    }
}

/// Withdraws a question when nobody waits for its answer any more.
struct Asked<'a> {
    proxy: &'a Proxy,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.proxy.questions().withdraw(self.id);
    }
}

impl<B: Backend> Server<B> {
    /// Asks the connected proxy of a workload for the groups of the services with these hosts, or
    /// for all if there is none, and for what it knows of their endpoints.
    ///
    /// # Errors
    ///
    /// If it does not tell within [`question_wait`](ironmesh_model::limits::WireLimits), or what it
    /// tells is too much or makes no sense. Its session goes on in any case.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the question.
    pub async fn ask(&self, workload_uid: &str, hosts: Vec<String>) -> Answer {
        let proxy = self.connected_proxy(workload_uid).ok_or(AskError::NotConnected)?;
        let (id, answered) = proxy.questions().ask(hosts, self.limits.questions_max)?;
        let _asked = Asked { proxy: &proxy, id };
        proxy.changed.notify_one();
        let longest = self.limits.question_wait;
        match timeout(longest, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::NotConnected),
            Err(_) => Err(AskError::Silent(longest)),
        }
    }
}

/// Characters of a proxy's word for why it does not answer.
const REFUSAL_CHARS_MAX: usize = 256;
