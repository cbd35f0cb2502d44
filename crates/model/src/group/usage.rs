//! What the limits of a group count: connections, requests, those that wait, and retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Group;
use crate::policy::{ConnectionPool, RetryBudget};
use crate::reason::Reason;

impl Group {
    /// Counts a new connection, if the limit allows it. `anyway`: whoever asks has none to the
    /// endpoint that it picked, and could wait for ever; so the limit is exceeded by at most one
    /// connection a worker and endpoint.
    pub fn open_connection(self: &Arc<Self>, anyway: bool) -> Option<OpenConnection> {
        let limit = self.pool()?.connections_max.unwrap_or(u32::MAX);
        let open = &self.usage.0.connections;
        let limit = if anyway { u32::MAX } else { limit };
        take(open, limit).then(|| OpenConnection(self.clone()))
    }

    /// Counts a request that waits for a connection.
    ///
    /// # Errors
    ///
    /// If as many wait as the limit allows: [`Reason::UpstreamOverflow`].
    pub fn wait(self: &Arc<Self>) -> Result<Waiting, Reason> {
        let limit = self.pool().and_then(|pool| pool.pending_max).unwrap_or(u32::MAX);
        let waiting = &self.usage.0.waiting;
        take(waiting, limit).then(|| Waiting(self.clone())).ok_or(Reason::UpstreamOverflow)
    }

    /// Counts a request that is under way, where that is limited, or limits retries.
    ///
    /// # Errors
    ///
    /// If as many are under way as the limit allows: [`Reason::UpstreamOverflow`].
    pub fn request(self: &Arc<Self>) -> Result<Option<Requesting>, Reason> {
        let policy = self.policy.load();
        let limit = |pool: &ConnectionPool| pool.requests_max;
        let of_retries = || policy.traffic.retry_budget.map(|_| u32::MAX);
        let most = policy.traffic.pool.as_ref().and_then(limit).or_else(of_retries);
        let Some(most) = most else { return Ok(None) };
        let taken = take(&self.usage.0.requests, most);
        taken.then(|| Some(Requesting(self.clone()))).ok_or(Reason::UpstreamOverflow)
    }

    /// Counts a retry that is under way, where that is limited: by a budget, or else by a number, or
    /// else, if nobody has configured that there are retries, by the default budget.
    ///
    /// # Errors
    ///
    /// If as many are under way as the limit allows: [`Reason::UpstreamOverflow`].
    pub fn retry(self: &Arc<Self>, is_configured: bool) -> Result<Option<Retrying>, Reason> {
        let policy = self.policy.load();
        let limit = |pool: &ConnectionPool| pool.retries_max;
        let by_default = || RetryBudget::default().retries_max(self.at_endpoints());
        let most = match policy.traffic.retry_budget {
            Some(budget) => Some(budget.retries_max(self.under_way().0)),
            None => policy.traffic.pool.as_ref().and_then(limit),
        };
        let most = most.or_else(|| (!is_configured).then(by_default));
        let Some(most) = most else { return Ok(None) };
        let taken = take(&self.usage.0.retries, most);
        taken.then(|| Some(Retrying(self.clone()))).ok_or(Reason::UpstreamOverflow)
    }

    /// Requests that are under way at its endpoints. (Those are counted always, and looked at only when
    /// something has failed.)
    fn at_endpoints(&self) -> u32 {
        let members = self.members.load();
        let all = members.all.iter().map(|member| member.state.under_way());
        all.fold(0, u32::saturating_add)
    }

    /// Connections that are open, and requests that wait for one; counted only where a limit is set.
    pub fn usage(&self) -> (u32, u32) {
        let Usage { connections, waiting, .. } = &self.usage.0;
        (connections.load(Ordering::Relaxed), waiting.load(Ordering::Relaxed))
    }

    /// Requests and retries that are under way; counted only where a limit is set.
    pub fn under_way(&self) -> (u32, u32) {
        let Usage { requests, retries, .. } = &self.usage.0;
        (requests.load(Ordering::Relaxed), retries.load(Ordering::Relaxed))
    }
}

/// Counts one more, unless there are as many already.
fn take(count: &AtomicU32, most: u32) -> bool {
    let more = |now| (now < most).then_some(now + 1);
    count.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// A connection of a group with limits, counted until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Group>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.usage.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that waits for a connection of a group, counted until it is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Group>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.usage.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request of a group that limits those, counted until it is dropped.
#[derive(Debug)]
pub struct Requesting(Arc<Group>);

impl Drop for Requesting {
    fn drop(&mut self) {
        self.0.usage.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A retry of a group that limits those, counted until it is dropped.
#[derive(Debug)]
pub struct Retrying(Arc<Group>);

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.usage.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(super) struct Usage {
    connections: AtomicU32,
    waiting: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
}
