//! Connections to endpoints, kept for the next request. One pool per worker.
//!
//! HTTP/1 connections are taken and given back, the last used first. An HTTP/2 connection is shared
//! by any number of requests.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use hashbrown::HashMap;
use ironmesh_model::{Identity, ListenerKind};
use tokio::time::Instant;

use crate::buffer::Buffers;
use crate::http::upstream::Upstream1;
use crate::workload::LocalWorkload;

/// Where to connect, on whose behalf, and how.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// The workload in whose name.
    pub(crate) workload: Arc<LocalWorkload>,
    /// Through which listener the request came; decides the mark.
    pub(crate) listener: ListenerKind,
    /// The address.
    pub(crate) address: SocketAddr,
    /// Whom to expect there, by mutual TLS; `None`: plaintext.
    pub(crate) expected: Option<Identity>,
    /// Whether to speak HTTP/2.
    pub(crate) http2: bool,
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.workload, &other.workload)
            && self.address == other.address
            && self.listener == other.listener
            && self.http2 == other.http2
            && self.expected == other.expected
    }
}

impl Eq for Destination {}

impl Hash for Destination {
    /// Of what differs most; equality looks at all.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.listener, self.http2).hash(state);
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    http1: RefCell<HashMap<Arc<Destination>, Vec<Idle>>>,
    http2: RefCell<HashMap<Arc<Destination>, Shared>>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Upstream1>,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    connection: SendRequest<Bytes>,
    /// When the last request took it.
    since: Instant,
}

impl Pool {
    /// An idle HTTP/1 connection that has not been closed, as far as can be told.
    pub(crate) fn take_http1(&self, to: &Destination, spare: &Buffers) -> Option<Box<Upstream1>> {
        let mut pool = self.http1.borrow_mut();
        let idle = pool.get_mut(to)?;
        while let Some(Idle { mut connection, .. }) = idle.pop() {
            if connection.is_open(spare) {
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Keeps an HTTP/1 connection that is at the end of an answer.
    pub(crate) fn give_http1(&self, connection: Box<Upstream1>, idle_max: usize) {
        let mut pool = self.http1.borrow_mut();
        let idle = pool.entry(connection.to.clone()).or_default();
        if idle.len() >= idle_max {
            idle.remove(0);
        }
        idle.push(Idle { connection, since: Instant::now() });
    }

    /// The shared HTTP/2 connection.
    pub(crate) fn http2(&self, to: &Destination) -> Option<SendRequest<Bytes>> {
        let mut pool = self.http2.borrow_mut();
        let shared = pool.get_mut(to)?;
        shared.since = Instant::now();
        Some(shared.connection.clone())
    }

    /// Keeps an HTTP/2 connection for others.
    pub(crate) fn share_http2(&self, to: Arc<Destination>, connection: SendRequest<Bytes>) {
        self.http2.borrow_mut().insert(to, Shared { connection, since: Instant::now() });
    }

    /// Forgets an HTTP/2 connection that takes no more requests.
    pub(crate) fn forget_http2(&self, to: &Destination) {
        self.http2.borrow_mut().remove(to);
    }

    /// Closes what has been idle for too long, or was closed by the endpoint.
    pub(crate) fn reap(&self, idle_timeout: Duration, spare: &Buffers) {
        let now = Instant::now();
        self.http1.borrow_mut().retain(|_, idle| {
            idle.retain_mut(|idle| {
                now.duration_since(idle.since) < idle_timeout && idle.connection.is_open(spare)
            });
            !idle.is_empty()
        });
        // Requests that are under way keep theirs open.
        self.http2.borrow_mut().retain(|_, shared| now.duration_since(shared.since) < idle_timeout);
    }
}
