//! A worker: one thread, one runtime, its own pool and buffers. A connection stays on the worker to
//! which it was handed, with all its requests.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hashbrown::HashMap;
use ironmesh_identity::{Clock, SystemClock};
use ironmesh_model::group::EndpointLoad;
use ironmesh_model::{ListenerKind, Reason, Silent, Traffic, decide};
use ironmesh_telemetry::access_log::{HTTP_DATE_BYTES, http_date};
use ironmesh_telemetry::{AccessLog, Registry};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, interval, sleep, timeout};

use crate::buffer::Buffers;
use crate::connection::Connection;
use crate::destination::OriginalDestination;
use crate::idle::{Watch, Watches};
use crate::message::{RequestHead, ResponseHead};
use crate::observe::Observer;
use crate::pool::{Key, Pool};
use crate::process::Process;
use crate::random::Random;
use crate::serve;
use crate::sockets;
use crate::workload::LocalWorkload;

mod upkeep;

/// A listening socket and what is served on it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) kind: ListenerKind,
    pub(crate) workload: Arc<LocalWorkload>,
    pub(crate) original: OriginalDestination,
    socket: std::net::TcpListener,
    closed: AtomicBool,
}

impl Listener {
    /// What is to be served on a socket that listens.
    pub(crate) fn new(
        kind: ListenerKind,
        workload: Arc<LocalWorkload>,
        original: OriginalDestination,
        socket: std::net::TcpListener,
    ) -> Self {
        Self { kind, workload, original, socket, closed: AtomicBool::new(false) }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &std::net::TcpListener {
        &self.socket
    }

    /// Takes no more connections, on no worker; those that are open go on. Others may hold the
    /// socket, too, and so it is shut down: dialling it is refused from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Err(error) = SockRef::from(&self.socket).shutdown(Shutdown::Both) {
            tracing::warn!(%error, "cannot stop listening");
        }
    }
}

/// A connection that was accepted by another worker.
#[derive(Debug)]
pub(crate) struct HandedOver {
    tcp: std::net::TcpStream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    load: Load,
}

/// What a worker is told by other threads.
#[derive(Debug)]
pub(crate) enum ToWorker {
    /// Serve this connection.
    Serve(HandedOver),
    /// Accept connections here, too.
    Listen(Arc<Listener>),
    /// Tell what is open to endpoints in the name of this workload.
    Tell(Arc<LocalWorkload>, oneshot::Sender<Vec<(Arc<Key>, EndpointLoad)>>),
}

/// The threads of a proxy that serve connections.
#[derive(Debug)]
pub(crate) struct Workers {
    mailboxes: Vec<mpsc::UnboundedSender<ToWorker>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If a thread or its runtime cannot be made.
    pub(crate) fn start(
        process: &Arc<Process>,
        registry: &Arc<Registry>,
        log: &AccessLog,
    ) -> io::Result<Self> {
        let count = process.loads.len();
        // What waits in a mailbox are accepted connections, which `connections_max` bounds.
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let mut threads = Vec::new();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let (process, peers) = (process.clone(), mailboxes.clone());
            let observer = Observer::new(registry, log, process.limits.known_parties_max);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = thread::Builder::new().name(format!("worker-{index}"));
            threads.push(thread.spawn(move || {
                let worker = Rc::new(Worker::new(process, index, observer, peers));
                LocalSet::new().block_on(&runtime, run(worker, inbox));
            })?);
        }
        Ok(Self { mailboxes, threads: Mutex::new(threads) })
    }

    /// Accepts connections on a socket, on all workers.
    pub(crate) fn listen(&self, listener: &Arc<Listener>) {
        for mailbox in &self.mailboxes {
            // A worker that is gone has been told to stop.
            let _ = mailbox.send(ToWorker::Listen(listener.clone()));
        }
    }

    /// What all of them have open to endpoints in the name of a workload; `None` if one does not tell
    /// in time.
    pub(crate) async fn loads(
        &self,
        workload: &Arc<LocalWorkload>,
        longest: Duration,
    ) -> Option<Vec<(Arc<Key>, EndpointLoad)>> {
        let ask = |mailbox: &mpsc::UnboundedSender<ToWorker>| {
            let (answer, answered) = oneshot::channel();
            // A worker that is gone tells nothing, which is seen below.
            let _ = mailbox.send(ToWorker::Tell(workload.clone(), answer));
            answered
        };
        let asked: Vec<_> = self.mailboxes.iter().map(ask).collect();
        let all = async {
            let mut loads = Vec::new();
            for answered in asked {
                loads.extend(answered.await.ok()?);
            }
            Some(loads)
        };
        timeout(longest, all).await.ok().flatten()
    }

    /// Waits for the threads, after a drain.
    pub(crate) fn join(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker has panicked");
            }
        }
    }
}

/// The state of one worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) process: Arc<Process>,
    pub(crate) index: usize,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pool: Pool,
    pub(crate) random: Random,
    pub(crate) observer: Observer,
    /// The requests that it serves.
    pub(crate) watches: Watches,
    /// Requests that wait for a resource.
    pub(crate) parked: Cell<usize>,
    /// Copies of requests that are on their way.
    pub(crate) mirrors: Cell<usize>,
    sequence: Cell<u64>,
    /// Boxed where they are used, too: moving one about would cost more than finding it.
    #[expect(clippy::vec_box, reason = "a scratch is lent and taken back as a box")]
    scratches: RefCell<Vec<Box<Scratch>>>,
    /// Destinations whose server was heard to speak first on an undeclared port, and until when
    /// that is believed.
    opaque: RefCell<HashMap<SocketAddr, Instant>>,
    peers: Vec<mpsc::UnboundedSender<ToWorker>>,
    /// Those for whom it accepts connections.
    workloads: RefCell<Vec<Arc<LocalWorkload>>>,
    /// The second of the wall clock, and its date as HTTP writes it.
    date: Cell<(u64, [u8; HTTP_DATE_BYTES])>,
    /// Whether idle connections are ended, since the proxy is going away.
    ends_idle: Cell<bool>,
    /// Wakes connections when that begins, and when the policies that they are under have changed.
    disturbed: Notify,
}

/// Memory that a request uses and an idle connection does not hold.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    /// What waits to be written to the client.
    pub(crate) out: Vec<u8>,
    /// What waits to be written to the endpoint.
    pub(crate) upstream_out: Vec<u8>,
    /// Watches the request.
    pub(crate) watch: Rc<Watch>,
}

impl Scratch {
    fn new(watch: Rc<Watch>) -> Self {
        let (request, response) = Default::default();
        Self { request, response, out: Vec::new(), upstream_out: Vec::new(), watch }
    }

    fn capacity(&self) -> usize {
        let Self { request, response, out, upstream_out, .. } = self;
        let fields = request.fields.capacity() + response.fields.capacity();
        fields + out.capacity() + upstream_out.capacity()
    }
}

impl Worker {
    fn new(
        process: Arc<Process>,
        index: usize,
        observer: Observer,
        peers: Vec<mpsc::UnboundedSender<ToWorker>>,
    ) -> Self {
        Self {
            process,
            index,
            buffers: Rc::default(),
            pool: Pool::default(),
            random: Random::new(),
            observer,
            watches: Watches::default(),
            parked: Cell::new(0),
            mirrors: Cell::new(0),
            // Workers count in ranges of their own.
            sequence: Cell::new((index as u64) << 48),
            scratches: RefCell::default(),
            opaque: RefCell::default(),
            peers,
            workloads: RefCell::default(),
            date: Cell::new((0, http_date(Duration::ZERO))),
            ends_idle: Cell::new(false),
            disturbed: Notify::new(),
        }
    }

    /// A worker without others, on the calling thread.
    #[cfg(test)]
    pub(crate) fn alone(process: Arc<Process>, registry: &Arc<Registry>, log: &AccessLog) -> Self {
        let observer = Observer::new(registry, log, process.limits.known_parties_max);
        Self::new(process, 0, observer, Vec::new())
    }

    /// Numbers the requests of this proxy.
    pub(crate) fn next_sequence(&self) -> u64 {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        sequence
    }

    /// When a connection that is made now will have become too old, if ever.
    pub(crate) fn expires(&self) -> Option<Instant> {
        let age = self.process.limits.connection_age_max;
        if age.is_zero() {
            return None;
        }
        // From nine to eleven tenths.
        let tenths = 0.9 + 0.2 * (self.random.next() as f64 / u64::MAX as f64);
        Some(Instant::now() + age.mul_f64(tenths))
    }

    /// What tells this hop of a request from others, for its draw.
    pub(crate) fn hop<'a>(&self, connection: &'a Connection) -> &'a [u8] {
        connection.workload.hop(connection.kind)
    }

    /// The date, for answers that lack it (RFC 9110, section 6.6.1). Written once a second.
    pub(crate) fn date(&self) -> [u8; HTTP_DATE_BYTES] {
        let now = SystemClock.now().0;
        let (second, date) = self.date.get();
        if second == now.as_secs() {
            return date;
        }
        let date = http_date(now);
        self.date.set((now.as_secs(), date));
        date
    }

    /// Waits until an idle connection is to be ended, since the proxy is going away. One that came
    /// after the others were ended has as long as they had to say something. Of `inbound` it is
    /// waited, too, that the policies no longer let it in. Cancel safe.
    pub(crate) async fn ends(&self, inbound: Option<&Connection>) {
        if self.ends_idle.get() {
            // Boxed: rare, and otherwise it would make every connection's future larger.
            return Box::pin(sleep(END_IDLE_AFTER)).await;
        }
        loop {
            let disturbed = self.disturbed.notified();
            let refused = inbound.is_some_and(|connection| self.refusal(connection).is_some());
            if self.ends_idle.get() || refused {
                return;
            }
            disturbed.await;
        }
    }

    /// Waits until the caller of an inbound connection is to be told to make no more requests on it.
    /// Cancel safe.
    pub(crate) async fn sends_away(&self, connection: &Connection) {
        if connection.kind != ListenerKind::Inbound {
            return pending().await;
        }
        Box::pin(connection.workload.begins_to_send_away(connection.kind)).await;
    }

    /// Waits until the policies no longer let a connection in, idle or not; gives the reason.
    /// Cancel safe.
    pub(crate) async fn refuses(&self, connection: &Connection) -> Reason {
        loop {
            let disturbed = self.disturbed.notified();
            if let Some(reason) = self.refusal(connection) {
                return reason;
            }
            disturbed.await;
        }
    }

    /// Why the policies of this moment do not let a connection in, if they do not.
    fn refusal(&self, connection: &Connection) -> Option<Reason> {
        if connection.kind == ListenerKind::Gateway {
            return None;
        }
        let local = connection.workload.local.load();
        let traffic = Traffic::Connection(connection.seen(&local));
        let view = connection.workload.views.load();
        let reason = decide(&view, &traffic, connection.draw, &mut Silent).reason;
        matches!(reason, Reason::PlaintextRefused | Reason::Blocked).then_some(reason)
    }

    /// Whether the server of this destination was heard to speak first, not long ago.
    pub(crate) fn is_learned_opaque(&self, connection: &Connection) -> bool {
        let opaque = self.opaque.borrow();
        opaque.get(&connection.destination).is_some_and(|until| Instant::now() < *until)
    }

    /// Notes that the server of this destination speaks first.
    pub(crate) fn learn_opaque(&self, connection: &Connection) {
        let (now, learned_max) = (Instant::now(), self.process.limits.learned_opaque_max);
        let mut opaque = self.opaque.borrow_mut();
        if opaque.len() >= learned_max {
            opaque.retain(|_, until| now < *until);
        }
        if opaque.len() < learned_max {
            opaque.insert(connection.destination, now + LEARNED_FOR);
        }
    }

    /// Memory for a request.
    pub(crate) fn take_scratch(&self) -> Box<Scratch> {
        let spare = self.scratches.borrow_mut().pop();
        spare.unwrap_or_else(|| Box::new(Scratch::new(self.watches.add())))
    }

    /// Takes the memory back.
    pub(crate) fn give_scratch(&self, mut scratch: Box<Scratch>) {
        let mut spare = self.scratches.borrow_mut();
        let bytes = scratch.capacity();
        if spare.len() < SCRATCHES_MAX && bytes <= SCRATCH_BYTES_MAX {
            scratch.out.clear();
            scratch.upstream_out.clear();
            spare.push(scratch);
        }
    }

    /// Connections of clients that it serves.
    fn connections(&self) -> usize {
        self.process.loads[self.index].load(Ordering::Relaxed)
    }

    /// Gives memory back that was not needed of late.
    fn shrink(&self) {
        self.buffers.shrink();
        if self.connections() == 0 {
            *self.scratches.borrow_mut() = Vec::new();
        }
    }

    /// Serves an accepted connection on the least loaded worker, this one if others are no less.
    fn assign(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr, listener: &Arc<Listener>) {
        let loads = &self.process.loads;
        let load = |index: usize| loads[index].load(Ordering::Relaxed);
        let least = (0..loads.len()).min_by_key(|index| load(*index)).unwrap_or(self.index);
        let to = if load(self.index) <= load(least) { self.index } else { least };
        let (listener, load) = (listener.clone(), Load::take(&self.process, to));
        if to == self.index {
            return self.serve(tcp, peer, listener, load);
        }
        let accepted = tcp.into_std().map(|tcp| HandedOver { tcp, peer, listener, load });
        match accepted.map(|accepted| self.peers[to].send(ToWorker::Serve(accepted))) {
            Ok(Ok(())) => {}
            // It is gone already.
            Ok(Err(mpsc::error::SendError(back))) => self.take(back),
            Err(error) => tracing::warn!(%error, "connection dropped"),
        }
    }

    /// Does what another thread says.
    fn take(self: &Rc<Self>, message: ToWorker) {
        match message {
            ToWorker::Serve(HandedOver { tcp, peer, listener, load }) => {
                match TcpStream::from_std(tcp) {
                    Ok(tcp) => self.serve(tcp, peer, listener, load),
                    Err(error) => tracing::warn!(%error, "connection dropped"),
                }
            }
            ToWorker::Tell(workload, answer) => {
                // Whoever asked may wait no longer.
                let _ = answer.send(self.pool.loads(&workload));
            }
            ToWorker::Listen(listener) => {
                self.serve_workload(&listener.workload);
                spawn_local(accept(self.clone(), listener));
            }
        }
    }

    /// Follows what concerns open connections in the view of a workload, from its first listener on.
    fn serve_workload(self: &Rc<Self>, workload: &Arc<LocalWorkload>) {
        let mut workloads = self.workloads.borrow_mut();
        if !workloads.contains(workload) {
            workloads.push(workload.clone());
            spawn_local(upkeep::follow_endpoints(self.clone(), workload.clone()));
            spawn_local(upkeep::follow_policies(self.clone(), workload.clone()));
        }
    }

    /// How long a drain may take at most, as the settings of its workloads say.
    fn drain_duration(&self) -> Duration {
        let workloads = self.workloads.borrow();
        let of = |workload: &Arc<LocalWorkload>| workload.views.load().settings().drain_duration;
        workloads.iter().map(of).max().unwrap_or_default()
    }

    fn serve(
        self: &Rc<Self>,
        tcp: TcpStream,
        peer: SocketAddr,
        listener: Arc<Listener>,
        load: Load,
    ) {
        let worker = self.clone();
        spawn_local(async move {
            if let Some(serving) = serve::accepted(&worker, tcp, peer, &listener) {
                serving.await;
            }
            drop(load);
        });
    }
}

/// Counts a connection as one of a worker's.
#[derive(Debug)]
struct Load {
    process: Arc<Process>,
    index: usize,
}

impl Load {
    fn take(process: &Arc<Process>, index: usize) -> Self {
        process.loads[index].fetch_add(1, Ordering::Relaxed);
        Self { process: process.clone(), index }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.process.loads[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(worker: Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<ToWorker>) {
    spawn_local(upkeep::look(worker.clone()));
    spawn_local(upkeep::reap(worker.clone()));
    spawn_local(upkeep::end_idle_series(worker.clone()));
    let mut drain = pin!(async {
        worker.process.drains().await;
        drain(&worker).await;
    });
    loop {
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => worker.take(message),
                None => break,
            },
            () = &mut drain => break,
        }
    }
}

/// Waits until nothing is open any more, at most as long as the settings say. New connections are
/// taken meanwhile, as callers learn only by and by that the endpoint is not ready any more; each is
/// closed after its request. Connections that are idle are ended when callers have had the time to
/// give them up themselves, as a request could be on its way on one.
async fn drain(worker: &Worker) {
    let longest = worker.drain_duration();
    let end = Instant::now() + longest;
    let end_idle = Instant::now() + END_IDLE_AFTER.min(longest / 2);
    let mut poll = interval(DRAIN_POLL);
    let mut was_empty = false;
    while Instant::now() < end {
        poll.tick().await;
        if Instant::now() >= end_idle && !worker.ends_idle.replace(true) {
            worker.disturbed.notify_waiters();
        }
        // Twice, so that what waited in the accept queue was seen.
        let is_empty = worker.process.connections() == 0;
        if std::mem::replace(&mut was_empty, is_empty) && is_empty {
            return;
        }
    }
}

/// Accepts connections for as long as the worker lives.
async fn accept(worker: Rc<Worker>, listener: Arc<Listener>) {
    let socket = listener.socket.try_clone().and_then(|socket| {
        socket.set_nonblocking(true)?;
        // What is accepted inherits it.
        sockets::keep_alive(SockRef::from(&socket), worker.process.limits.keepalive)?;
        TcpListener::from_std(socket)
    });
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "cannot accept connections");
            return;
        }
    };
    loop {
        let accepted = socket.accept().await.and_then(|(tcp, peer)| {
            tcp.set_nodelay(true)?;
            Ok((tcp, peer))
        });
        match accepted {
            Ok((tcp, peer)) => worker.assign(tcp, peer, &listener),
            Err(_) if listener.closed.load(Ordering::Acquire) => return,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: the queue would only give the same error again.
                tracing::warn!(%error, "cannot accept for a moment");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while worker.process.connections() >= worker.process.limits.connections_max {
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

/// Pause after an error that would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a drain waits before it ends idle connections: callers learn within that time that the
/// endpoint is not ready any more.
const END_IDLE_AFTER: Duration = Duration::from_secs(1);
/// How often a drain looks whether anything is open.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long a server that spoke first is expected to do so again: another may have its address then.
const LEARNED_FOR: Duration = Duration::from_secs(60);
/// Scratches kept for later requests.
const SCRATCHES_MAX: usize = 256;
/// A scratch that has grown beyond this is not kept.
const SCRATCH_BYTES_MAX: usize = 64 << 10;
