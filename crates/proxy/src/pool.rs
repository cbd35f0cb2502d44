//! Connections to endpoints, kept for the next request. One pool per worker.
//!
//! HTTP/1 connections are taken and given back, the last used first. An HTTP/2 connection is shared
//! by as many requests as the endpoint lets it carry.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use hashbrown::{Equivalent, HashMap, HashSet};
use ironmesh_model::group::{self, EndpointLoad, Group, OpenConnection};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::UpstreamTls;
use ironmesh_model::{ListenerKind, Resource};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::buffer::Buffers;
use crate::failure::Failure;
use crate::http::upstream::Upstream1;
use crate::workload::LocalWorkload;

/// Where to connect, on whose behalf, and how. Borrowed from the decision about a request, so that
/// one that finds a connection copies nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    /// The workload in whose name.
    pub(crate) workload: &'a Arc<LocalWorkload>,
    /// Through which listener the request came; decides the mark.
    pub(crate) listener: ListenerKind,
    /// The address.
    pub(crate) address: SocketAddr,
    /// How to speak to it, and whom to expect there.
    pub(crate) tls: &'a UpstreamTls,
    /// Whether to speak HTTP/2.
    pub(crate) http2: bool,
    /// The group whose limits count the connection. Such a connection serves no other group.
    pub(crate) limited: Option<&'a Arc<Group>>,
}

impl PartialEq for Destination<'_> {
    fn eq(&self, other: &Self) -> bool {
        let limited = match (self.limited, other.limited) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        };
        limited
            && self.address == other.address
            && self.listener == other.listener
            && self.http2 == other.http2
            && self.workload == other.workload
            && self.tls == other.tls
    }
}

impl Eq for Destination<'_> {}

impl Destination<'_> {
    /// A copy that lasts.
    pub(crate) fn to_key(self) -> Arc<Key> {
        Arc::new(Key {
            workload: self.workload.clone(),
            listener: self.listener,
            address: self.address,
            tls: self.tls.clone(),
            http2: self.http2,
            limited: self.limited.cloned(),
        })
    }
}

impl Hash for Destination<'_> {
    /// Of what differs most; equality looks at all.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.listener, self.http2).hash(state);
    }
}

impl Equivalent<Arc<Key>> for Destination<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        *self == key.destination()
    }
}

/// A destination by which connections are kept.
#[derive(Debug)]
pub(crate) struct Key {
    workload: Arc<LocalWorkload>,
    listener: ListenerKind,
    address: SocketAddr,
    tls: UpstreamTls,
    http2: bool,
    limited: Option<Arc<Group>>,
}

impl Key {
    /// The destination.
    pub(crate) fn destination(&self) -> Destination<'_> {
        Destination {
            workload: &self.workload,
            listener: self.listener,
            address: self.address,
            tls: &self.tls,
            http2: self.http2,
            limited: self.limited.as_ref(),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.destination() == other.destination()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.destination().hash(state);
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    http1: RefCell<HashMap<Arc<Key>, Vec<Idle>>>,
    http2: RefCell<HashMap<Arc<Key>, Shared>>,
    /// HTTP/1 connections, in use or idle.
    open: RefCell<HashMap<Arc<Key>, Rc<Cell<usize>>>>,
    /// Opaque connections.
    opaque: RefCell<HashMap<Arc<Key>, Rc<Cell<usize>>>>,
    /// Number of the last HTTP/2 connection.
    numbered: Cell<u64>,
    limited: Rc<Limited>,
}

/// The connections of a worker that limits count.
#[derive(Debug, Default)]
struct Limited {
    /// How many there are to a destination.
    open: RefCell<HashMap<Arc<Key>, usize>>,
    /// Wakes requests that wait for one, whenever one is free or gone.
    freed: Notify,
}

/// A connection that a limit counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    limited: Rc<Limited>,
    to: Arc<Key>,
    _open: OpenConnection,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.limited.open.borrow_mut();
        if let Some(count) = open.get_mut(&self.to) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.to);
            }
        }
        self.limited.freed.notify_waiters();
    }
}

#[derive(Debug)]
struct Idle {
    connection: Box<Upstream1>,
    since: Instant,
}

/// The HTTP/2 connections to one destination: one, and more only while the endpoint allows no more
/// streams on those that are there.
#[derive(Debug, Default)]
struct Shared {
    connections: Vec<Numbered>,
    /// The dial that is under way. Who needs a connection meanwhile waits for it.
    dial: Option<Rc<Dial>>,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    connection: SendRequest<Bytes>,
    /// Exchanges that are open on it.
    open: Rc<Cell<usize>>,
    /// When it was last seen in use.
    since: Instant,
    /// When it has become too old.
    expires: Option<Instant>,
}

/// An exchange on a shared connection, or a connection to an endpoint, counted as open until it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A dial of one request for which others wait.
#[derive(Debug, Default)]
pub(crate) struct Dial {
    ended: Notify,
    failure: Cell<Option<Failure>>,
}

impl Dial {
    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it has failed. It may also have been given up, which is none.
    pub(crate) async fn wait(&self) -> Result<(), Failure> {
        self.ended.notified().await;
        self.failure.get().map_or(Ok(()), Err)
    }
}

/// The dial of the request that holds this; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Dialling<'a> {
    pool: &'a Pool,
    to: Arc<Key>,
    dial: Rc<Dial>,
    streams_max: Option<usize>,
}

impl Dialling<'_> {
    /// Streams that the endpoint allows on its other connections, if there are any: to be expected
    /// of the new one before it says so itself.
    pub(crate) fn streams_max(&self) -> Option<usize> {
        self.streams_max
    }

    /// What is dialled.
    pub(crate) fn key(&self) -> &Arc<Key> {
        &self.to
    }

    /// Keeps the connection that was made, and takes the first place on it; gives its number, too.
    pub(crate) fn made(
        self,
        connection: SendRequest<Bytes>,
        expires: Option<Instant>,
    ) -> (u64, Place, Rc<Cell<usize>>) {
        let number = self.pool.numbered.get() + 1;
        self.pool.numbered.set(number);
        let open = Rc::<Cell<usize>>::default();
        let place = Place::take(&open);
        let (since, counted) = (Instant::now(), open.clone());
        let kept = Numbered { number, connection, open, since, expires };
        let mut pool = self.pool.http2.borrow_mut();
        pool.entry(self.to.clone()).or_default().connections.push(kept);
        (number, place, counted)
    }

    /// Tells those who wait that there is no connection.
    pub(crate) fn failed(self, failure: Failure) {
        self.dial.failure.set(Some(failure));
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        let mut pool = self.pool.http2.borrow_mut();
        let empty = pool.get_mut(&self.to).is_some_and(|shared| {
            shared.dial = None;
            shared.is_empty()
        });
        if empty {
            pool.remove(&self.to);
        }
        drop(pool);
        self.dial.ended.notify_waiters();
    }
}

impl Pool {
    /// Counts a connection that is to be made, if the limits of its group allow it. `waits`: whoever
    /// gets none waits until one of this worker is free; if there is none to wait for, it may have
    /// one all the same.
    pub(crate) fn count(
        &self,
        to: Destination<'_>,
        group: &Arc<Group>,
        waits: bool,
    ) -> Option<Counted> {
        let mut open = self.limited.open.borrow_mut();
        let counted = group.open_connection(waits && !open.contains_key(&to))?;
        let key = match open.get_key_value_mut(&to) {
            Some((key, count)) => {
                *count += 1;
                key.clone()
            }
            None => {
                let key = to.to_key();
                open.insert(key.clone(), 1);
                key
            }
        };
        Some(Counted { limited: self.limited.clone(), to: key, _open: counted })
    }

    /// Waits until a connection that a limit counts is free or gone. What happens after this call
    /// and before the first poll counts, too.
    pub(crate) fn freed(&self) -> impl Future<Output = ()> {
        self.limited.freed.notified()
    }

    /// An idle HTTP/1 connection that has not been closed, as far as can be told.
    pub(crate) fn take_http1(
        &self,
        to: Destination<'_>,
        spare: &Buffers,
    ) -> Option<Box<Upstream1>> {
        let mut pool = self.http1.borrow_mut();
        let idle = pool.get_mut(&to)?;
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
        let is_counted = connection.counted.is_some();
        idle.push(Idle { connection, since: Instant::now() });
        if is_counted {
            self.limited.freed.notify_waiters();
        }
    }

    /// A place for one more HTTP/1 connection; `None` if there are `connections_max`.
    pub(crate) fn place_http1(
        &self,
        to: Destination<'_>,
        connections_max: usize,
    ) -> Option<(Arc<Key>, Place)> {
        let mut all = self.open.borrow_mut();
        let (key, open) = match all.get_key_value(&to) {
            Some((key, open)) => (key.clone(), open.clone()),
            None => {
                let (key, open) = (to.to_key(), Rc::<Cell<usize>>::default());
                all.insert(key.clone(), open.clone());
                (key, open)
            }
        };
        (open.get() < connections_max).then(|| (key, Place::take(&open)))
    }

    /// Counts an opaque connection.
    pub(crate) fn place_opaque(&self, to: Destination<'_>) -> Place {
        let mut opaque = self.opaque.borrow_mut();
        match opaque.get(&to) {
            Some(open) => Place::take(open),
            None => Place::take(opaque.entry(to.to_key()).or_default()),
        }
    }

    /// What is open to each endpoint in the name of a workload.
    pub(crate) fn loads(&self, workload: &LocalWorkload) -> Vec<(Arc<Key>, EndpointLoad)> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let load = |connections, requests| EndpointLoad {
            connections: count(connections),
            requests: count(requests),
        };
        let (idle, open) = (self.http1.borrow(), self.open.borrow());
        let http1 = open.iter().map(|(to, open)| {
            let idle = idle.get(to).map_or(0, Vec::len);
            (to, load(open.get(), open.get().saturating_sub(idle)))
        });
        let opaque = self.opaque.borrow();
        let opaque = opaque.iter().map(|(to, open)| (to, load(open.get(), open.get())));
        let http2 = self.http2.borrow();
        let http2 = http2.iter().map(|(to, shared)| {
            let requests = shared.connections.iter().map(|kept| kept.open.get()).sum();
            (to, load(shared.connections.len(), requests))
        });
        let is_outbound =
            |to: &Key| *to.workload == *workload && to.listener != ListenerKind::Inbound;
        let all = http1.chain(opaque).chain(http2).filter(|(to, _)| is_outbound(to));
        all.map(|(to, load)| (to.clone(), load)).collect()
    }

    /// Whether no more HTTP/2 connections are made to an endpoint: there are `connections_max`, or
    /// those that are there tell that it takes no requests at all.
    pub(crate) fn is_full(&self, to: Destination<'_>, connections_max: usize) -> bool {
        let pool = self.http2.borrow();
        let Some(Shared { connections, .. }) = pool.get(&to) else { return false };
        let takes_none = |kept: &Numbered| kept.connection.current_max_send_streams() == 0;
        connections.len() >= connections_max
            || (!connections.is_empty() && connections.iter().all(takes_none))
    }

    /// The number of the last HTTP/2 connection that was made; 0: none was.
    pub(crate) fn last_number(&self) -> u64 {
        self.numbered.get()
    }

    /// A place on a shared HTTP/2 connection that the endpoint lets carry one more, and the number
    /// of that connection. The first with room, so that those which are not needed become idle; of
    /// those only that were made after the connection `newer_than`.
    pub(crate) fn http2(
        &self,
        to: Destination<'_>,
        newer_than: u64,
    ) -> Option<(u64, SendRequest<Bytes>, Place)> {
        let pool = self.http2.borrow();
        let is_usable = |kept: &&Numbered| {
            let streams_max = kept.connection.current_max_send_streams();
            kept.number > newer_than && kept.open.get() < streams_max
        };
        let kept = pool.get(&to)?.connections.iter().find(is_usable)?;
        Some((kept.number, kept.connection.clone(), Place::take(&kept.open)))
    }

    /// Begins a dial for an HTTP/2 connection.
    ///
    /// # Errors
    ///
    /// If one is under way.
    pub(crate) fn dial_http2(&self, to: Destination<'_>) -> Result<Dialling<'_>, Rc<Dial>> {
        let mut pool = self.http2.borrow_mut();
        let dial = Rc::<Dial>::default();
        let mut streams_max = None;
        let to = match pool.get_key_value_mut(&to) {
            Some((to, shared)) => {
                if let Some(other) = &shared.dial {
                    return Err(other.clone());
                }
                shared.dial = Some(dial.clone());
                streams_max = shared
                    .connections
                    .first()
                    .map(|kept| kept.connection.current_max_send_streams());
                to.clone()
            }
            None => {
                let to = to.to_key();
                let shared = Shared { connections: Vec::new(), dial: Some(dial.clone()) };
                pool.insert(to.clone(), shared);
                to
            }
        };
        Ok(Dialling { pool: self, to, dial, streams_max })
    }

    /// Forgets an HTTP/2 connection that takes no more requests.
    pub(crate) fn forget_http2(&self, to: Destination<'_>, number: u64) {
        let mut pool = self.http2.borrow_mut();
        let empty = pool.get_mut(&to).is_some_and(|shared| {
            shared.connections.retain(|kept| kept.number != number);
            shared.is_empty()
        });
        if empty {
            pool.remove(&to);
        }
    }

    /// Gives up connections of a workload to members that are endpoints no longer or not ready;
    /// requests that are under way keep theirs.
    pub(crate) fn keep_ready(&self, workload: &LocalWorkload) {
        let view = workload.views.load();
        let (mut http1, mut http2) = (self.http1.borrow_mut(), self.http2.borrow_mut());
        let is_member = |to: &&Arc<Key>| *to.workload == *workload && to.tls.expected().is_some();
        let members = http1.keys().chain(http2.keys()).filter(is_member);
        let kept: HashSet<SocketAddr> = members.map(|to| to.address).collect();
        if kept.is_empty() {
            return;
        }
        let chunks = view.held().filter_map(|(_, held)| match &held.resource {
            Some(Resource::Endpoints(chunk)) => Some(chunk),
            _ => None,
        });
        let mut ready = HashSet::new();
        for endpoint in chunks.flat_map(|chunk| &chunk.endpoints).filter(|e| e.ready) {
            let (Some(ip), Some(identity)) = (group::ip(endpoint), endpoint.tls.expected()) else {
                continue;
            };
            let addresses = endpoint.ports.iter().map(|port| SocketAddr::new(ip, port.target));
            // Of a large mesh, the pool has few.
            let addresses = addresses.filter(|address| kept.contains(address));
            ready.extend(addresses.map(|address| (address, identity)));
        }
        let keep = |to: &Key| match to.tls.expected() {
            Some(expected) if *to.workload == *workload => ready.contains(&(to.address, expected)),
            Some(_) | None => true,
        };
        http1.retain(|to, _| keep(to));
        http2.retain(|to, shared| {
            if !keep(to) {
                shared.connections.clear();
            }
            !shared.is_empty()
        });
    }

    /// Closes what has been idle for too long, or was closed by the endpoint.
    pub(crate) fn reap(&self, limits: &ProxyLimits, spare: &Buffers) {
        let (now, idle_timeout) = (Instant::now(), limits.upstream_idle_timeout);
        let is_expired = |expires: Option<Instant>| expires.is_some_and(|at| now >= at);
        self.http1.borrow_mut().retain(|_, idle| {
            idle.retain_mut(|idle| {
                now.duration_since(idle.since) < idle_timeout
                    && !is_expired(idle.connection.expires)
                    && idle.connection.is_open(spare)
            });
            !idle.is_empty()
        });
        self.http2.borrow_mut().retain(|_, shared| {
            shared.connections.retain_mut(|kept| {
                if kept.open.get() > 0 {
                    kept.since = now;
                }
                // Requests that are under way keep one that is too old.
                now.duration_since(kept.since) < idle_timeout && !is_expired(kept.expires)
            });
            !shared.is_empty()
        });
        self.open.borrow_mut().retain(|_, open| open.get() > 0);
        self.opaque.borrow_mut().retain(|_, open| open.get() > 0);
    }
}

impl Shared {
    fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.dial.is_none()
    }
}
