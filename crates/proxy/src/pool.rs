//! Connections to endpoints, kept for the next request. One pool per worker.
//!
//! HTTP/1 connections are taken and given back, the last used first. An HTTP/2 connection is shared
//! by as many requests as the endpoint lets it carry.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use hashbrown::{HashMap, HashSet};
use ironmesh_model::group::{self, EndpointLoad, Group};
use ironmesh_model::{ListenerKind, Resource};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::buffer::Buffers;
use crate::failure::Failure;
use crate::http::upstream::Http1Upstream;
use crate::workload::LocalWorkload;

mod aging;
mod keep_alive;
mod key;
mod queue;

use aging::Aging;
use keep_alive::KeepAlive;
pub(crate) use keep_alive::Kept;
pub(crate) use key::{Key, Target};

pub(crate) use queue::{Counted, Waits};
use queue::{Limited, Queue};

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    http1: RefCell<HashMap<Arc<Key>, Rc<Endpoint>>>,
    http2: RefCell<HashMap<Arc<Key>, Shared>>,
    /// Opaque connections.
    opaque: RefCell<HashMap<Arc<Key>, Rc<Cell<usize>>>>,
    /// Number of the last HTTP/2 connection.
    numbered: Cell<u64>,
    limited: Rc<Limited>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A connection that is kept and its endpoint have each other.
        for endpoint in self.http1.get_mut().values() {
            drop(endpoint.idle.take());
        }
    }
}

/// The HTTP/1 connections to one destination.
#[derive(Debug)]
struct Endpoint {
    to: Arc<Key>,
    /// Those that are not in use, the last used at the end.
    idle: RefCell<Vec<Idle>>,
    keep_alive: KeepAlive,
    /// How many there are, in use or idle.
    open: Rc<Cell<usize>>,
    queue: Rc<Queue>,
}

/// Room for an HTTP/1 connection, kept by it until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    endpoint: Rc<Endpoint>,
    _place: Place,
    _counted: Option<Counted>,
}

/// A connection that is not in use.
#[derive(Debug)]
struct Idle(Box<Http1Upstream>);

impl Room {
    /// Notes that the endpoint had closed a connection that was kept since then.
    pub(crate) fn was_closed(&self, kept_since: Instant) {
        self.endpoint.keep_alive.closed_after(kept_since.elapsed());
    }
}

/// The HTTP/2 connections to one destination: one, and more only while the endpoint allows no more
/// streams on those that are there.
#[derive(Debug, Default)]
struct Shared {
    connections: Vec<Numbered>,
    /// The dial that is under way. Who needs a connection meanwhile waits for it.
    dial: Option<Rc<SharedDial>>,
    queue: Rc<Queue>,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    connection: SendRequest<Bytes>,
    /// Exchanges that are open on it.
    open: Rc<Cell<usize>>,
    /// Exchanges that it was used for.
    carried: Cell<u32>,
    /// When it was last seen in use.
    since: Instant,
    /// When it has become too old.
    expires: Option<Instant>,
}

/// An exchange on a shared connection, or a connection to an endpoint, counted as open until it is
/// dropped. Then the next request that waits has its turn.
#[derive(Debug)]
pub(crate) struct Place {
    open: Rc<Cell<usize>>,
    queue: Rc<Queue>,
}

impl Place {
    fn take(open: &Rc<Cell<usize>>, queue: &Rc<Queue>) -> Self {
        open.set(open.get() + 1);
        Self { open: open.clone(), queue: queue.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.queue.wake_one();
    }
}

/// An opaque connection, counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpaquePlace(Rc<Cell<usize>>);

impl Drop for OpaquePlace {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A dial of one request for which others wait.
#[derive(Debug, Default)]
pub(crate) struct SharedDial {
    ended: Notify,
    failure: Cell<Option<Failure>>,
}

impl SharedDial {
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
pub(crate) struct DialGuard<'a> {
    pool: &'a Pool,
    to: Arc<Key>,
    dial: Rc<SharedDial>,
    streams_max: Option<usize>,
}

impl DialGuard<'_> {
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
        let mut pool = self.pool.http2.borrow_mut();
        let shared = pool.entry(self.to.clone()).or_default();
        let place = Place::take(&open, &shared.queue);
        let (since, counted) = (Instant::now(), open.clone());
        let carried = Cell::new(1);
        shared.connections.push(Numbered { number, connection, open, carried, since, expires });
        // There may be room on it for others.
        shared.queue.wake_all();
        drop(pool);
        (number, place, counted)
    }

    /// Tells those who wait that there is no connection.
    pub(crate) fn failed(self, failure: Failure) {
        self.dial.failure.set(Some(failure));
    }
}

impl Drop for DialGuard<'_> {
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
    pub(crate) fn count(&self, to: Target<'_>, group: &Arc<Group>, waits: bool) -> Option<Counted> {
        Limited::count(&self.limited, to, group, waits)
    }

    /// Lets a request wait for a connection to a destination, or for room on one.
    ///
    /// # Errors
    ///
    /// If so many wait for one there already.
    pub(crate) fn wait(&self, to: Target<'_>, waiting_max: usize) -> Result<Waits, Failure> {
        let (key, queue) = if to.http2 {
            let mut pool = self.http2.borrow_mut();
            match pool.get_key_value(&to) {
                Some((key, shared)) => (key.clone(), shared.queue.clone()),
                None => {
                    let (key, shared) = (to.to_key(), Shared::default());
                    let queue = shared.queue.clone();
                    pool.insert(key.clone(), shared);
                    (key, queue)
                }
            }
        } else {
            let endpoint = self.endpoint(to);
            (endpoint.to.clone(), endpoint.queue.clone())
        };
        Waits::begin(&self.limited, key, queue, waiting_max)
    }

    /// An idle HTTP/1 connection that has not been closed, as far as can be told.
    ///
    /// Where `kept` is [`Kept::Lasting`] and the endpoint may be about to close the one that was used
    /// last, that is closed, and leaves its room to a new one: the others are older still.
    pub(crate) fn take_http1(
        &self,
        to: Target<'_>,
        kept: Kept,
        spare: &Buffers,
    ) -> Option<Box<Http1Upstream>> {
        if kept == Kept::None {
            return None;
        }
        let pool = self.http1.borrow();
        let endpoint = pool.get(&to)?;
        let mut idle = endpoint.idle.borrow_mut();
        let aging = to.pool().map(|policy| Aging::of(&policy));
        while let Some(Idle(mut connection)) = idle.pop() {
            if aging.is_some_and(|aging| aging.is_over(connection.kept_since, connection.expires))
                || !endpoint.is_open(&mut connection, spare)
            {
                continue;
            }
            let lasts = kept == Kept::Any
                || !endpoint.keep_alive.is_known()
                || !endpoint.keep_alive.may_close_after(connection.idle());
            return lasts.then_some(connection);
        }
        None
    }

    /// Keeps an HTTP/1 connection that is at the end of an answer.
    pub(crate) fn give_http1(mut connection: Box<Http1Upstream>, idle_max: usize) {
        let endpoint = connection.room.endpoint.clone();
        if let Some(policy) = endpoint.to.target().pool() {
            connection.carried = connection.carried.saturating_add(1);
            if policy.requests_per_connection_max.is_some_and(|most| connection.carried >= most) {
                return;
            }
        }
        let mut idle = endpoint.idle.borrow_mut();
        let too_many = idle.len() >= idle_max;
        let oldest = too_many.then(|| idle.remove(0));
        connection.kept_since = Some(Instant::now());
        idle.push(Idle(connection));
        drop((idle, oldest));
        endpoint.queue.wake_one();
    }

    /// Closes the idle HTTP/1 connections to a destination.
    pub(crate) fn close_idle(&self, to: Target<'_>) {
        let idle = self.http1.borrow().get(&to).map(|endpoint| endpoint.idle.take());
        drop(idle);
    }

    /// Room for one more HTTP/1 connection, counted by its group if that has limits; `None` if there
    /// are `connections_max`, or as many as the group may have.
    pub(crate) fn room_http1(&self, to: Target<'_>, connections_max: usize) -> Option<Room> {
        let endpoint = self.endpoint(to);
        if endpoint.open.get() >= connections_max {
            return None;
        }
        let counted = match to.limited {
            None => None,
            Some(group) => Some(self.count(to, group, true)?),
        };
        // Last, since one that is given back wakes those who wait.
        let place = Place::take(&endpoint.open, &endpoint.queue);
        Some(Room { endpoint, _place: place, _counted: counted })
    }

    fn endpoint(&self, to: Target<'_>) -> Rc<Endpoint> {
        let mut pool = self.http1.borrow_mut();
        if let Some(endpoint) = pool.get(&to) {
            return endpoint.clone();
        }
        let to = to.to_key();
        let endpoint = Rc::new(Endpoint {
            to: to.clone(),
            idle: RefCell::default(),
            keep_alive: KeepAlive::default(),
            open: Rc::default(),
            queue: Rc::default(),
        });
        pool.insert(to, endpoint.clone());
        endpoint
    }

    /// Counts an opaque connection.
    pub(crate) fn place_opaque(&self, to: Target<'_>) -> OpaquePlace {
        let mut opaque = self.opaque.borrow_mut();
        let open = match opaque.get(&to) {
            Some(open) => open.clone(),
            None => opaque.entry(to.to_key()).or_default().clone(),
        };
        open.set(open.get() + 1);
        OpaquePlace(open)
    }

    /// What is open to each endpoint in the name of a workload.
    pub(crate) fn loads(&self, workload: &LocalWorkload) -> Vec<(Arc<Key>, EndpointLoad)> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let load = |connections, requests| EndpointLoad {
            connections: count(connections),
            requests: count(requests),
        };
        let http1 = self.http1.borrow();
        let http1 = http1.iter().map(|(to, endpoint)| {
            let (open, idle) = (endpoint.open.get(), endpoint.idle.borrow().len());
            (to, load(open, open.saturating_sub(idle)))
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

    /// Whether the HTTP/2 connections to an endpoint tell that it takes no requests at all.
    pub(crate) fn takes_none(&self, to: Target<'_>) -> bool {
        let pool = self.http2.borrow();
        let Some(Shared { connections, .. }) = pool.get(&to) else { return false };
        let takes_none = |kept: &Numbered| kept.connection.current_max_send_streams() == 0;
        !connections.is_empty() && connections.iter().all(takes_none)
    }

    /// Whether no more HTTP/2 connections are made to an endpoint, since there are `connections_max`.
    pub(crate) fn is_full(&self, to: Target<'_>, connections_max: usize) -> bool {
        let pool = self.http2.borrow();
        pool.get(&to).is_some_and(|shared| shared.connections.len() >= connections_max)
    }

    /// Lets all requests that wait for room on HTTP/2 connections to a destination look again.
    pub(crate) fn wake_http2(&self, to: Target<'_>) {
        if let Some(shared) = self.http2.borrow().get(&to) {
            shared.queue.wake_all();
        }
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
        to: Target<'_>,
        newer_than: u64,
    ) -> Option<(u64, SendRequest<Bytes>, Place)> {
        if let Some(policy) = to.pool() {
            return self.http2_by(&policy, to, newer_than);
        }
        let pool = self.http2.borrow();
        let is_usable = |kept: &&Numbered| {
            let streams_max = kept.connection.current_max_send_streams();
            kept.number > newer_than && kept.open.get() < streams_max
        };
        let shared = pool.get(&to)?;
        let kept = shared.connections.iter().find(is_usable)?;
        Some((kept.number, kept.connection.clone(), Place::take(&kept.open, &shared.queue)))
    }

    /// Begins a dial for an HTTP/2 connection.
    ///
    /// # Errors
    ///
    /// If one is under way.
    pub(crate) fn dial_http2(&self, to: Target<'_>) -> Result<DialGuard<'_>, Rc<SharedDial>> {
        let mut pool = self.http2.borrow_mut();
        let dial = Rc::<SharedDial>::default();
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
                let shared = Shared { dial: Some(dial.clone()), ..Shared::default() };
                pool.insert(to.clone(), shared);
                to
            }
        };
        Ok(DialGuard { pool: self, to, dial, streams_max })
    }

    /// Forgets an HTTP/2 connection that takes no more requests.
    pub(crate) fn forget_http2(&self, to: Target<'_>, number: u64) {
        let mut pool = self.http2.borrow_mut();
        let empty = pool.get_mut(&to).is_some_and(|shared| {
            shared.connections.retain(|kept| kept.number != number);
            // There may be room for another connection.
            shared.queue.wake_all();
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
        let (http1, mut http2) = (self.http1.borrow(), self.http2.borrow_mut());
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
            let Some(ip) = group::ip(endpoint) else { continue };
            let addresses = endpoint.ports.iter().map(|port| SocketAddr::new(ip, port.target));
            // Of a large mesh, the pool has few.
            let addresses = addresses.filter(|address| kept.contains(address));
            let members = addresses
                .filter_map(|address| Some((address, endpoint.tls_at(address.port()).expected()?)));
            ready.extend(members);
        }
        let keep = |to: &Key| match to.tls.expected() {
            Some(expected) if *to.workload == *workload => ready.contains(&(to.address, expected)),
            Some(_) | None => true,
        };
        let mut closed = Vec::new();
        for (_, endpoint) in http1.iter().filter(|(to, _)| !keep(to)) {
            closed.append(&mut endpoint.idle.borrow_mut());
        }
        http2.retain(|to, shared| {
            if !keep(to) {
                shared.connections.clear();
                shared.queue.wake_all();
            }
            !shared.is_empty()
        });
    }
}

impl Endpoint {
    /// Whether a kept connection has not been closed, as far as can be told; learns from it how long
    /// the endpoint keeps them.
    fn is_open(&self, connection: &mut Http1Upstream, spare: &Buffers) -> bool {
        let is_open = connection.is_open(spare);
        match is_open {
            true if self.keep_alive.is_known() => self.keep_alive.open_after(connection.idle()),
            true => (),
            false => self.keep_alive.closed_after(connection.idle()),
        }
        is_open
    }
}

impl Shared {
    fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.dial.is_none() && !self.queue.is_awaited()
    }
}
