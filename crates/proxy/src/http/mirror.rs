//! Copies of requests (mirroring). Nobody waits for a copy: it runs in a task of its own, its answer is
//! read and dropped, and what becomes of it shows in counters of its own alone.
//!
//! A body is copied as it passes. A copy whose endpoint takes it more slowly than the request's own is
//! given up once `mirror_bytes_max` wait for it.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ironmesh_model::group::{Ask, Group, Tried};
use ironmesh_model::request::split_authority;
use ironmesh_model::{Decision, Draw, ListenerKind, Member, Name, Reason};
use ironmesh_telemetry::metrics::Single;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::failure::{Failure, Stage};
use crate::http::body::{BodyFailure, Part, Sink, Source};
use crate::http::exchange::{Exchange, speaks_http2};
use crate::http::upstream::{Answer, Directions};
use crate::http::{RequestBody, dial};
use crate::http1::{Framing, Limits};
use crate::message::{Fields, RequestHead, ResponseHead, Version};
use crate::names;
use crate::park;
use crate::pool::{Kept, Target};
use crate::proxy_protocol::Origin;
use crate::worker::Worker;
use crate::workload::LocalWorkload;

/// Copies that were sent, and those that came to nothing.
#[derive(Debug, Default)]
pub(crate) struct MirrorCounts {
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) failed: Arc<AtomicU64>,
}

/// Memory of a part of a body beside its bytes, so that many small parts are bounded, too.
const PART_BYTES: usize = 128;

/// See [`MirrorCounts::sent`].
pub(crate) const SENT: Single = Single {
    name: "ironmesh_mirrored_requests_total",
    help: "Copies of requests that an endpoint has answered",
    gauge: false,
};

/// See [`MirrorCounts::failed`].
pub(crate) const FAILED: Single = Single {
    name: "ironmesh_mirrored_requests_failed_total",
    help: "Copies of requests that no endpoint has answered, or that were given up",
    gauge: false,
};

/// The copies of a request that is on its way. Most have none, and are no larger for them.
#[derive(Debug, Default)]
pub(crate) struct Copies(Option<Box<Feeds>>);

#[derive(Debug, Default)]
struct Feeds(Vec<Feed>);

/// What brings a body to its copy.
#[derive(Debug)]
struct Feed {
    to: mpsc::UnboundedSender<Part>,
    /// Bytes that wait.
    waiting: Rc<Cell<usize>>,
    bytes_max: usize,
}

/// A body as a copy gets it.
#[derive(Debug)]
pub(crate) struct CopiedBody {
    from: mpsc::UnboundedReceiver<Part>,
    waiting: Rc<Cell<usize>>,
}

impl CopiedBody {
    /// The next part, if it is here already.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, BodyFailure> {
        match self.from.try_recv() {
            Ok(part) => Ok(Some(self.taken(part))),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(BodyFailure::Closed),
        }
    }

    /// Waits for the next part. Cancel safe.
    pub(crate) async fn wait(&mut self) -> Result<Part, BodyFailure> {
        let part = self.from.recv().await.ok_or(BodyFailure::Closed)?;
        Ok(self.taken(part))
    }

    fn taken(&self, part: Part) -> Part {
        if let Part::Data(data) = &part {
            self.waiting.set(self.waiting.get().saturating_sub(held(data)));
        }
        part
    }
}

/// Memory that a part of a body takes while it waits.
fn held(data: &Bytes) -> usize {
    data.len() + PART_BYTES
}

impl Copies {
    /// Takes a copy of a part of the body.
    pub(crate) fn data(&mut self, data: &Bytes) {
        let Some(feeds) = &mut self.0 else { return };
        // In memory of its own, which does not hold what it was read into.
        feeds.0.retain(|feed| {
            let waiting = feed.waiting.get() + held(data);
            feed.waiting.set(waiting);
            let part = || Part::Data(Bytes::copy_from_slice(data));
            waiting <= feed.bytes_max && feed.to.send(part()).is_ok()
        });
    }

    /// The body has ended.
    pub(crate) fn end(&mut self, trailers: Option<&Fields>) {
        for feed in self.0.take().into_iter().flat_map(|feeds| feeds.0) {
            // A copy that is over needs no end.
            let _ = feed.to.send(Part::End(trailers.map(|fields| Box::new(fields.clone()))));
        }
    }
}

/// Sends the copies off that the winning rule asks for.
pub(crate) fn begin(
    exchange: &Exchange<'_>,
    decision: &Decision,
    body: &RequestBody<'_, '_>,
) -> Copies {
    let mut copies = Copies::default();
    // What becomes of a connection that switches to another protocol cannot be copied.
    if body.upgrade.is_some() {
        return copies;
    }
    for (_, to, drawn) in decision.mirrors(exchange.draw) {
        let (worker, limits) = (exchange.worker, &exchange.worker.process.limits);
        let group = match &to.group {
            _ if !drawn => continue,
            Ok(group) if worker.mirrors.get() < limits.mirrors_max => group.clone(),
            _ => {
                count(&worker.process.mirrors.failed);
                continue;
            }
        };
        worker.mirrors.set(worker.mirrors.get() + 1);
        let host = match to.host.starts_with('*') {
            true => Name::from(&*split_authority(exchange.head.authority()).0),
            false => to.host.clone(),
        };
        let (to, from) = mpsc::unbounded_channel();
        let waiting = Rc::<Cell<usize>>::default();
        copies.0.get_or_insert_default().0.push(Feed {
            to,
            waiting: waiting.clone(),
            bytes_max: limits.mirror_bytes_max,
        });
        let copy = Copy {
            worker: worker.clone(),
            workload: exchange.connection.workload.clone(),
            listener: exchange.connection.kind,
            dialled: exchange.connection.destination,
            draw: exchange.draw,
            host,
            group,
            http2_client: exchange.head.version == Version::Http2,
            grpc: exchange.grpc,
            head: shadow(exchange.head),
            framing: body.framing,
            body: CopiedBody { from, waiting },
        };
        spawn_local(copy.run());
    }
    if body.framing.is_empty() {
        copies.end(None);
    }
    copies
}

/// The head of a copy. Its authority says that it is one, as Envoy's do.
fn shadow(head: &RequestHead) -> RequestHead {
    let mut head = head.clone();
    let authority = head.authority();
    let shadow = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{host}-shadow:{port}")
        }
        _ => format!("{authority}-shadow"),
    };
    head.set_authority(&shadow);
    // The client waits for nobody but the request's own endpoint.
    head.fields.remove("expect");
    head
}

/// A copy on its way.
struct Copy {
    worker: Rc<Worker>,
    workload: Arc<LocalWorkload>,
    listener: ListenerKind,
    dialled: SocketAddr,
    draw: Draw,
    /// Where it goes, in a service that is reached at whatever host is named: to the destination of the
    /// rule, or if that is a wildcard to the host of the request.
    host: Name,
    group: Arc<Group>,
    http2_client: bool,
    grpc: bool,
    head: RequestHead,
    framing: Framing,
    body: CopiedBody,
}

impl Copy {
    async fn run(mut self) {
        let worker = self.worker.clone();
        let longest = worker.process.limits.mirror_timeout;
        let counts = &worker.process.mirrors;
        match timeout(longest, self.send()).await {
            Ok(Ok(())) => count(&counts.sent),
            Ok(Err(failure)) => {
                tracing::debug!(reason = %failure.reason, "copy not sent");
                count(&counts.failed);
            }
            Err(_) => {
                tracing::debug!("copy given up after mirror_timeout");
                count(&counts.failed);
            }
        }
        worker.mirrors.set(worker.mirrors.get().saturating_sub(1));
    }

    /// An endpoint of a group that had none, once it is known for what its names stand, or the host.
    async fn pick_resolved(&self, ask: &Ask<'_>) -> Result<Arc<Member>, Reason> {
        let host = Some(&*self.host);
        let named = || host.map(Cow::from);
        park::resolved_now(&self.worker, &self.workload, Some(&self.group), named).await;
        match names::member(&self.workload, &self.group, host, ask) {
            Some(member) => Ok(member),
            None => self.group.pick(ask, || self.worker.process.now()),
        }
    }

    /// Sends it to an endpoint, and reads the answer to its end.
    async fn send(&mut self) -> Result<(), Failure> {
        let worker = &self.worker;
        let nobody = Tried::default();
        // As in Envoy, what a request is known by says nothing of its copies.
        let ask = Ask { dialled: self.dialled, tried: &nobody, draw: self.draw, hash: None };
        let member = match self.group.pick(&ask, || worker.process.now()) {
            Ok(member) => member,
            Err(_) => Box::pin(self.pick_resolved(&ask)).await.map_err(Failure::mesh)?,
        };
        let _under_way = member.begin();
        let address = member.address();
        let address = address.ok_or(Failure::upstream(Reason::ConnectFailed, Stage::NotSent))?;
        let _counted = self.group.request().map_err(Failure::mesh)?;
        // As in Envoy nobody is told for whom a copy is.
        let origin = member.proxy_protocol.map(|version| Origin { version, ends: None });
        let to = Target {
            workload: &self.workload,
            listener: self.listener,
            address: &address,
            tls: &member.tls,
            http2: speaks_http2(&self.group.policy(), self.http2_client, self.grpc),
            limited: Some(&self.group).filter(|group| group.pool().is_some()),
            origin,
        };
        let mut upstream = dial::connect(worker, to, Kept::Any).await?;
        let limits = &worker.process.limits;
        let (mut out, mut answer_head) = (Vec::new(), ResponseHead::default());
        let mut body = Source::copied(&mut self.body);
        let Directions { mut request, answer } = upstream.begin(
            &self.head,
            self.framing,
            Limits::from(limits),
            &worker.buffers,
            &mut out,
        )?;
        let is_sent = Cell::new(false);
        let sending = async {
            if pass_on(&mut body, &mut request).await.is_ok() {
                is_sent.set(true);
                // The answer tells what became of it.
                pending::<()>().await;
            }
        };
        let reusable = tokio::select! {
            biased;
            reusable = read(answer, &mut answer_head, limits.informational_heads_max) => reusable?,
            () = sending => return Err(Failure::downstream(Reason::DownstreamClosed)),
        };
        if reusable && is_sent.get() {
            dial::give_back(worker, upstream);
        }
        Ok(())
    }
}

/// Moves the body of a copy to its end. If it stops short the endpoint is told, where it can be.
async fn pass_on(body: &mut Source<'_>, to: &mut Sink<'_>) -> Result<(), BodyFailure> {
    let moved = async {
        loop {
            match body.next()? {
                Some(Part::Data(data)) => to.data(data).await?,
                Some(Part::End(trailers)) => return to.end(trailers).await,
                None => {
                    to.flush().await?;
                    body.fill().await?;
                }
            }
        }
    };
    let moved = moved.await;
    if moved.is_err() {
        to.reset();
    }
    moved
}

/// Reads an answer to its end; tells whether its connection can be used again.
async fn read(
    mut answer: Answer<'_>,
    head: &mut ResponseHead,
    informational_heads_max: u32,
) -> Result<bool, Failure> {
    let malformed = Failure::upstream(Reason::UpstreamProtocol, Stage::Sent);
    let mut following = answer.head(head).await?;
    let mut informational_heads = 0;
    while head.is_informational() {
        informational_heads += 1;
        if informational_heads > informational_heads_max {
            return Err(malformed);
        }
        following = answer.head(head).await?;
    }
    // Nobody has asked to switch to another protocol.
    if head.status == 101 {
        return Err(malformed);
    }
    let mut body = answer.body(&mut following);
    let failed = |_| Failure::upstream(Reason::UpstreamReset, Stage::Sent);
    loop {
        match body.next().map_err(failed)? {
            Some(Part::Data(_)) => {}
            Some(Part::End(_)) => return Ok(following.reusable),
            None => body.fill().await.map_err(failed)?,
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
