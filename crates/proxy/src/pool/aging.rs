//! Which connections are too old, idle for too long, or used up.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::ConnectionPool;
use tokio::time::Instant;

use super::{Idle, Key, Numbered, Place, Pool, Target};
use crate::buffer::Buffers;

/// When a connection is kept no longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aging {
    now: Instant,
    /// How long one is kept without a request; zero: for ever. `None`: the policy does not say.
    idle_timeout: Option<Duration>,
    /// Requests that one carries.
    requests_max: Option<u32>,
}

impl Aging {
    /// As a policy says it.
    pub(super) fn of(policy: &ConnectionPool) -> Self {
        Self {
            now: Instant::now(),
            idle_timeout: policy.idle_timeout(),
            requests_max: policy.requests_per_connection_max,
        }
    }

    /// As the policy of a destination says it, if that has one, and else as the proxy has it.
    fn of_key(to: &Key, limits: &ProxyLimits) -> Self {
        let said = Self::of(&to.target().pool().unwrap_or_default());
        let idle_timeout = said.idle_timeout.unwrap_or(limits.upstream_idle_timeout);
        Self { idle_timeout: Some(idle_timeout), ..said }
    }

    /// Whether a connection that has been idle since then is to be closed.
    pub(super) fn is_over(&self, idle_since: Option<Instant>, expires: Option<Instant>) -> bool {
        let is_idle = |timeout: Duration| {
            let idle = idle_since.map_or(Duration::ZERO, |since| self.now.duration_since(since));
            !timeout.is_zero() && idle >= timeout
        };
        self.idle_timeout.is_some_and(is_idle) || expires.is_some_and(|at| self.now >= at)
    }
}

impl Numbered {
    /// Whether it takes no more exchanges; requests that are under way keep it.
    fn is_used_up(&self, aging: &Aging) -> bool {
        let idle_since = (self.open.get() == 0).then_some(self.since);
        let carried = aging.requests_max.is_some_and(|most| self.carried.get() >= most);
        carried || aging.is_over(idle_since, self.expires)
    }
}

impl Pool {
    /// See [`Self::http2`]; where a policy says when connections are used up.
    pub(super) fn http2_by(
        &self,
        policy: &ConnectionPool,
        to: Target<'_>,
        newer_than: u64,
    ) -> Option<(u64, SendRequest<Bytes>, Place)> {
        let mut pool = self.http2.borrow_mut();
        let shared = pool.get_mut(&to)?;
        let aging = Aging::of(policy);
        shared.connections.retain(|kept| kept.open.get() > 0 || !kept.is_used_up(&aging));
        let most = policy.streams_max.map_or(usize::MAX, |most| most as usize);
        let is_usable = |kept: &&Numbered| {
            let streams_max = kept.connection.current_max_send_streams().min(most);
            kept.number > newer_than && kept.open.get() < streams_max && !kept.is_used_up(&aging)
        };
        let kept = shared.connections.iter().find(is_usable)?;
        kept.carried.set(kept.carried.get().saturating_add(1));
        Some((kept.number, kept.connection.clone(), Place::take(&kept.open, &shared.queue)))
    }

    /// Closes what has been idle for too long, has become too old, or was closed by the endpoint.
    pub(crate) fn reap(&self, limits: &ProxyLimits, spare: &Buffers) {
        self.http1.borrow_mut().retain(|to, endpoint| {
            let aging = Aging::of_key(to, limits);
            endpoint.idle.borrow_mut().retain_mut(|Idle(connection)| {
                !aging.is_over(connection.kept_since, connection.expires)
                    && endpoint.is_open(connection, spare)
            });
            endpoint.open.get() > 0 || endpoint.queue.is_awaited()
        });
        self.http2.borrow_mut().retain(|to, shared| {
            let aging = Aging::of_key(to, limits);
            let before = shared.connections.len();
            shared.connections.retain_mut(|kept| {
                if kept.open.get() > 0 {
                    kept.since = aging.now;
                }
                // Requests that are under way keep one that is too old.
                !kept.is_used_up(&aging)
            });
            if shared.connections.len() < before {
                shared.queue.wake_all();
            }
            !shared.is_empty()
        });
        self.opaque.borrow_mut().retain(|_, open| open.get() > 0);
    }
}
