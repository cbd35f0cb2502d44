//! The one table of limits: every queue, body, header, history and wait of the mesh has its name,
//! its unit and its default here. An operator sets one with
//! `ironmesh up --set limits.proxy.head_bytes_max=128KiB`; `ironmesh settings` lists them.
//!
//! What is not here is not a limit to choose: facts of protocols, pauses between looks, and sizes
//! of buffers and batches stand as constants where they are used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bootstrap::ProxyKind;
use crate::settings::{BadSetting, Setting};

mod value;

use value::Limit;

/// Size of one compiled regex, in bytes. Fixed, so that a pattern means the same everywhere.
pub const REGEX_BYTES_MAX: usize = 256 << 10;

/// Size of the table that a regex fills while it matches, in bytes, per thread; what does not fit is
/// worked out again. Fixed: it changes the speed of patterns that are hard to match, nothing else.
pub const REGEX_TABLE_BYTES_MAX: usize = 128 << 10;

/// Values in one manifest file, those of aliases counted each time they are used. Fixed, so that a
/// file means the same everywhere.
pub const MANIFEST_VALUES_MAX: usize = 2_000_000;

/// All limits of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Of proxies.
    pub proxy: ProxyLimits,
    /// Of the push protocol.
    pub wire: WireLimits,
    /// Of the control plane.
    pub control: ControlLimits,
    /// Of the local platform.
    pub platform: PlatformLimits,
    /// Of container images.
    pub images: ImageLimits,
}

impl Limits {
    /// What names of limits begin with.
    pub const PREFIX: &'static str = "limits.";

    /// Sets one limit by its name, such as `limits.proxy.head_bytes_max`. Sizes are whole numbers
    /// above 0 and may end with `KiB`, `MiB` or `GiB`; durations are written as `1m30s`.
    ///
    /// # Errors
    ///
    /// If no limit has this name, or the value does not fit it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadSetting> {
        let path = name.strip_prefix(Self::PREFIX).and_then(|rest| rest.split_once('.'));
        let result = path.and_then(|(section, field)| match section {
            ProxyLimits::SECTION => self.proxy.set(field, value),
            WireLimits::SECTION => self.wire.set(field, value),
            ControlLimits::SECTION => self.control.set(field, value),
            PlatformLimits::SECTION => self.platform.set(field, value),
            ImageLimits::SECTION => self.images.set(field, value),
            _ => None,
        });
        let bad = |expected| BadSetting::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        };
        result.ok_or_else(|| BadSetting::UnknownLimit { name: name.to_owned() })?.map_err(bad)
    }

    /// Every limit.
    pub fn rows(&self) -> Vec<Setting> {
        let mut rows = self.proxy.rows();
        rows.extend(self.wire.rows());
        rows.extend(self.control.rows());
        rows.extend(self.platform.rows());
        rows.extend(self.images.rows());
        rows
    }
}

/// One section of the table: a struct whose fields, defaults and names are written once.
macro_rules! limits {
    (
        $(#[$about:meta])*
        $name:ident in $section:literal {
            $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!(" Default: `", stringify!($default), "`.")]
                pub $field: $kind,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            const SECTION: &'static str = $section;

            /// Sets a field; `None` if there is none of that name, an error with what it takes.
            fn set(&mut self, field: &str, value: &str) -> Option<Result<(), &'static str>> {
                match field {
                    $(stringify!($field) => Some(
                        <$kind as Limit>::read(value)
                            .map(|value| self.$field = value)
                            .ok_or(<$kind as Limit>::EXPECTED),
                    ),)+
                    _ => None,
                }
            }

            fn rows(&self) -> Vec<Setting> {
                let default = Self::default();
                vec![$(Setting {
                    name: concat!("limits.", $section, ".", stringify!($field)).to_owned(),
                    value: Limit::show(&self.$field),
                    default: Limit::show(&default.$field),
                    about: concat!($($doc),+).trim().to_owned(),
                },)+]
            }
        }
    };
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: u64 = 1 << 30;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

limits! {
    /// Limits of the data plane. Part of a proxy's bootstrap; the defaults are for sidecars and
    /// gateways alike.
    ProxyLimits in "proxy" {
        /// Bytes of a request's or response's head: start line and headers (Envoy's
        /// `max_request_headers_kb`).
        head_bytes_max: usize = 60 * KIB,
        /// Header fields of one message (Envoy's `max_headers_count`).
        header_count_max: usize = 100,
        /// Bytes of a trailer section.
        trailer_bytes_max: usize = 16 * KIB,
        /// Bytes of a chunk-size line, extensions included.
        chunk_line_bytes_max: usize = 256,
        /// Informational heads (1xx) of one answer before its final one.
        informational_heads_max: u32 = 16,
        /// Time a client may take for a request's head, from its first byte.
        head_timeout: Duration = seconds(60),
        /// Time without progress after which a body that is being read, or a message that is being
        /// written, is given up (Envoy's `stream_idle_timeout`). Not while an answer is waited for,
        /// nor while a gRPC client, or one that is being answered already, holds its stream open
        /// in silence: that is `exchange_idle_timeout`.
        stream_idle_timeout: Duration = seconds(300),
        /// Time in which neither side of an exchange sends anything, after which it is given up: while
        /// a connection or an answer is waited for, and while a stream is open. Bytes in either
        /// direction count (Envoy's `stream_idle_timeout`, which is as long). It is looked at once a
        /// second.
        exchange_idle_timeout: Duration = seconds(300),
        /// Time a keep-alive connection of a client may idle, as Istio.
        downstream_idle_timeout: Duration = hours(1),
        /// Time a pooled connection to an endpoint may idle. A server that closes earlier does no
        /// harm: what was sent on a connection just closed is sent again if that is safe.
        upstream_idle_timeout: Duration = seconds(60),
        /// Idle connections kept per endpoint and worker.
        idle_connections_per_endpoint_max: usize = 64,
        /// Connections for HTTP to one endpoint, per worker, in use or idle; requests beyond wait.
        endpoint_connections_max: usize = 1_024,
        /// Requests that wait for a connection to one endpoint, or for room on one, per worker; more
        /// get 503 (Envoy's `max_pending_requests`).
        endpoint_pending_max: usize = 1_024,
        /// Connections from clients per proxy; more wait in the accept queue. Never more than half
        /// of the descriptors that the process may have: the rest is for connections to endpoints.
        connections_max: usize = 50_000,
        /// Age at which a connection is ended, a tenth earlier or later so that not all end at once;
        /// on both sides of a proxy. One that carries HTTP ends once its requests are done, by
        /// GOAWAY or `Connection: close`; one whose bytes nobody looks at is broken off. 0: at none.
        connection_age_max: Duration = seconds(0),
        /// Silence after which a peer is asked whether it is still there: by TCP on every
        /// connection, by a ping on HTTP/2 connections to endpoints with open requests. It counts
        /// as gone when it has not answered for as long again.
        keepalive: Duration = seconds(30),
        /// Connections to the admin, metrics and health ports of a proxy, each; for one more the
        /// oldest goes that has not asked anything.
        admin_connections_max: usize = 64,
        /// Those of one peer.
        admin_connections_per_peer_max: usize = 8,
        /// Time a client of these ports may take for a request's head, or keep an idle connection.
        admin_head_timeout: Duration = seconds(1),
        /// Time such a connection may last.
        admin_connection_time_max: Duration = seconds(60),
        /// Bytes of an answer that tells what a proxy holds (`proxy-config`); how much found no room is
        /// said at its end.
        dump_bytes_max: usize = 16 * MIB,
        /// Time that what a client still sends is read after the last answer, so that the answer
        /// is not lost to a reset.
        linger_timeout: Duration = seconds(1),
        /// Bytes read in that time.
        linger_bytes_max: usize = 4 * MIB,
        /// Requests that wait for a resource, per worker; more get 503.
        parked_requests_max: usize = 1_024,
        /// Time a request waits for a resource.
        parked_wait: Duration = seconds(5),
        /// Hosts, addresses and callers that clients made the proxy ask about; beyond, those of
        /// which nothing is known go first, then those that were used the longest time ago.
        resolutions_max: usize = 10_000,
        /// Names of endpoints that are resolved; one more is never.
        names_max: usize = 1_024,
        /// DNS queries at a time.
        dns_queries_max: usize = 16,
        /// Time the name servers may take to answer one.
        dns_timeout: Duration = seconds(5),
        /// Shortest time for which a name stands for what its name servers answered, whatever they
        /// say.
        dns_ttl_min: Duration = seconds(1),
        /// Longest such time.
        dns_ttl_max: Duration = seconds(60),
        /// Longest pause before a name is asked for again of which there was no answer; what was
        /// answered before holds meanwhile.
        dns_retry_pause_max: Duration = seconds(30),
        /// Addresses for which a name stands; more are left out.
        dns_addresses_max: usize = 256,
        /// Bytes of a header of the PROXY protocol that a gateway takes.
        proxy_header_bytes_max: usize = 4 * KIB,
        /// Connect attempts for one request, each to another endpoint where there is one.
        connect_attempts_max: u32 = 3,
        /// Attempts at one request, whatever its rule or the request itself asks for.
        attempts_max: u32 = 1_000,
        /// Bytes of a request's body kept to be sent again while nobody has seen them.
        replay_bytes_max: usize = 64 * KIB,
        /// Copies of requests (mirrors) that a worker has on their way; beyond, no copy is made.
        mirrors_max: usize = 256,
        /// Bytes of a request's body that wait for its copy's endpoint to take them; beyond, the copy
        /// is given up.
        mirror_bytes_max: usize = 64 * KIB,
        /// Time a copy may take, its answer included.
        mirror_timeout: Duration = seconds(60),
        /// Time an inbound TLS handshake may take.
        handshake_timeout: Duration = seconds(10),
        /// Bytes of a ClientHello; post-quantum key shares included, no client sends as many.
        client_hello_bytes_max: usize = 16 * KIB,
        /// Bytes that are looked at to see what is spoken on an undeclared port.
        sniff_bytes_max: usize = 8 * KIB,
        /// Silence of a client on an undeclared port after which the outbound side dials.
        outbound_silence: Duration = ms(10),
        /// Destinations on undeclared ports remembered as speaking first, per worker; of more it is
        /// found out each time.
        learned_opaque_max: usize = 4_096,
        /// Time an opaque connection may be silent in both directions, as Istio.
        opaque_idle_timeout: Duration = hours(1),
        /// Concurrent HTTP/2 streams of one connection.
        h2_streams_max: u32 = 1_024,
        /// Bytes that one HTTP/2 stream may send before they are read.
        h2_stream_window_bytes: u32 = 256 * KIB as u32,
        /// Bytes that all streams of an HTTP/2 connection may send before they are read: many
        /// streams' worth, so that a few slow readers do not stall the others. It begins with 64
        /// KiB and grows with the streams, as far as `h2_unread_bytes_max` allows.
        h2_connection_window_bytes: u32 = 16 * MIB as u32,
        /// Bytes that all HTTP/2 connections of a proxy, of clients and to endpoints, may send
        /// before they are read. Half of it is kept for the first 64 KiB of each; who finds no
        /// room even for those is refused.
        h2_unread_bytes_max: u64 = 1024 * MIB as u64,
        /// Bytes of an HTTP/2 frame.
        h2_frame_bytes_max: u32 = 64 * KIB as u32,
        /// HTTP/2 streams remembered after they were reset.
        h2_reset_streams_max: usize = 64,
        /// Bytes that wait on one HTTP/2 stream for a peer that does not take them.
        h2_send_buffer_bytes_max: usize = 256 * KIB,
        /// First pause before a port of a gateway that could not be opened is tried again.
        listen_retry_pause_min: Duration = ms(100),
        /// Longest such pause.
        listen_retry_pause_max: Duration = seconds(30),
        /// Questions to the local agent, for sockets, that wait at a time.
        agent_questions_max: usize = 1_024,
        /// Time a connection attempt to the control plane may take.
        control_connect_timeout: Duration = seconds(5),
        /// Time the control plane may take to sign a certificate.
        sign_timeout: Duration = seconds(10),
        /// First pause before another attempt to get a certificate.
        sign_retry_pause_min: Duration = ms(100),
        /// Longest such pause.
        sign_retry_pause_max: Duration = seconds(5),
        /// Identities of endpoints, times ALPN lists, for which TLS configurations are kept.
        tls_peers_max: usize = 1_024,
        /// Endpoints of one identity whose TLS sessions are kept for resumption.
        tls_sessions_per_peer_max: usize = 64,
        /// Workloads and services whose metric labels are kept, each, per worker; of more they are
        /// made each time.
        known_parties_max: usize = 4_096,
        /// Series of one metric family, of all workers together; what finds no room is counted in
        /// one whose labels say `other`.
        metric_series_max: usize = 4_096,
        /// Time without a change after which a series ends, at the latest after twice as long; if it
        /// is counted in again it begins at 0.
        metric_series_idle: Duration = hours(1),
        /// Bytes of access log lines that wait for standard output, per worker; lines beyond are
        /// dropped and counted.
        access_log_bytes_max: usize = MIB,
    }
}

limits! {
    /// Limits of the push protocol, the same on both sides.
    WireLimits in "wire" {
        /// Bytes of one frame.
        frame_bytes_max: usize = 4 * MIB,
        /// Bytes of the first frame of a proxy, which has not proven yet who it is.
        greeting_bytes_max: usize = 64 * KIB,
        /// Bytes of one update, over all its frames.
        update_bytes_max: usize = 256 * MIB,
        /// Keys that one sidecar may subscribe to: what its application calls. More than
        /// `resolutions_max` of proxies, since what is waited for comes on top.
        sidecar_subscriptions_max: usize = 20_000,
        /// Keys that the proxy of a gateway may subscribe to: what all its hosts need.
        gateway_subscriptions_max: usize = 200_000,
        /// Unanswered updates of one proxy; more changes are joined until it acknowledges.
        updates_in_flight_max: usize = 16,
        /// Certificates that one proxy may ask for at once.
        sign_requests_max: usize = 16,
        /// Questions about its state that one proxy may have unanswered; further ones are refused.
        questions_max: usize = 16,
        /// Time a proxy may take to answer such a question; its workers have half of it.
        question_wait: Duration = seconds(2),
        /// Bytes of one answer, over all its messages. A proxy leaves out what has no room, and
        /// says how much that is.
        answer_bytes_max: usize = 4 * MIB,
        /// First pause before a proxy connects again.
        reconnect_pause_min: Duration = ms(50),
        /// Longest such pause.
        reconnect_pause_max: Duration = seconds(5),
        /// Silence after which a ping is sent, and after twice of which the peer counts as gone.
        keepalive: Duration = seconds(10),
    }
}

impl WireLimits {
    /// Keys that one proxy of a kind may subscribe to.
    pub fn subscriptions_max(&self, kind: ProxyKind) -> usize {
        match kind {
            ProxyKind::Sidecar => self.sidecar_subscriptions_max,
            ProxyKind::Gateway => self.gateway_subscriptions_max,
        }
    }
}

limits! {
    /// Limits of the control plane.
    ControlLimits in "control" {
        /// Bytes of one object or request body of the API (etcd's limit is 1.5 MiB).
        object_bytes_max: usize = 3 * MIB,
        /// Objects in the store.
        objects_max: usize = 200_000,
        /// Watch events kept for watchers that come back; older versions get `410 Gone`.
        watch_history_max: usize = 10_000,
        /// Bytes of the objects in those events, as JSON.
        watch_history_bytes_max: u64 = 16 * MIB as u64,
        /// Time one watch may last; the client comes back.
        watch_time_max: Duration = hours(1),
        /// Events (`kind: Event`) kept.
        events_max: usize = 2_000,
        /// How long an Event is kept after it was last seen, as Kubernetes.
        event_ttl: Duration = hours(1),
        /// Connections of proxies at a time; for one more the oldest goes that has not proven who it
        /// is.
        push_connections_max: usize = 4_096,
        /// Those of one address.
        push_connections_per_peer_max: usize = 16,
        /// Time a proxy's TLS handshake may take.
        push_handshake_timeout: Duration = seconds(10),
        /// Connections to each socket of the API at a time. For one more the longest idle one is
        /// closed; if all have requests, it is answered with 429.
        api_connections_max: usize = 256,
        /// Those of one address to each socket at which the API is served over TLS to pods.
        api_connections_per_peer_max: usize = 64,
        /// Time a TLS handshake of a client of the API may take.
        api_handshake_timeout: Duration = seconds(10),
        /// Bytes of one message of a client that runs a command, attaches, or forwards ports.
        api_message_bytes_max: usize = MIB,
        /// Connections to ports of a pod at a time that one `port-forward` of `kubectl` has.
        api_forwards_max: usize = 512,
        /// Time an application may take to begin its answer to a request that comes to it by the API
        /// (`kubectl get --raw .../proxy/`).
        api_proxy_timeout: Duration = seconds(60),
        /// Time for which a token of a service account is valid at most, whatever is asked for. Pods
        /// have a new one when four fifths of it are over.
        account_token_lifetime_max: Duration = hours(24),
        /// Time a client of the API may take for a request's head, or keep an idle connection.
        api_head_timeout: Duration = seconds(60),
        /// Time a client of the API may take to send a request's body.
        api_body_timeout: Duration = seconds(10),
        /// Bytes of all large request bodies of the API (over 64 KiB) that are being read or worked on;
        /// further ones wait within their `api_body_timeout`.
        api_bodies_bytes_max: usize = 64 * MIB,
        /// Time a client of the API may take nothing of an answer that waits for it; then its
        /// connection is closed.
        api_stall_timeout: Duration = seconds(60),
        /// Parts of an answer, of some 32 KiB, that wait for a slow client of the API; then its sender
        /// waits.
        api_parts_max: usize = 2,
        /// Changes of what proxies know that go out at once, one after the other.
        publish_burst: u32 = 40,
        /// Time after which one more may; those that come meanwhile go out with it.
        publish_interval: Duration = ms(5),
        /// Time a question waits until the snapshot has what was stored before it was asked.
        snapshot_wait: Duration = seconds(30),
        /// Time the answer to a write waits until the snapshot has what was written, to say what is
        /// found about it.
        advice_wait: Duration = seconds(1),
        /// Time after a change until statuses that follow from it are written: what else changes
        /// meanwhile is written with it.
        status_pause: Duration = ms(500),
        /// Bytes of the messages in the status of one object; what is left out is counted there.
        status_bytes_max: usize = 16 * KIB,
        /// Longest grace period of a deletion.
        grace_period_max: Duration = hours(24),
        /// First pause before something that could not be reconciled is tried again.
        reconcile_pause_min: Duration = ms(100),
        /// Longest such pause.
        reconcile_pause_max: Duration = seconds(60),
        /// First pause of a Job after a pod that failed, as Kubernetes; it doubles with each failure.
        job_pause_min: Duration = seconds(10),
        /// Longest such pause.
        job_pause_max: Duration = seconds(600),
        /// Bytes of the journal, beyond twice the live objects, at which it is compacted.
        journal_slack_bytes: u64 = 8 * MIB as u64,
        /// Bytes of a proxy's token; names and uids of Kubernetes stay far below.
        token_bytes_max: usize = 8 * KIB,
    }
}

limits! {
    /// Limits of the local platform.
    PlatformLimits in "platform" {
        /// Pods at a time of a mesh that root started, each of which has users of its own.
        pods_max: u32 = 1_024,
        /// Processes and threads of a pod, of all its users together.
        processes_max: u32 = 4_096,
        /// Open files of a process of a container.
        open_files_max: u32 = 65_536,
        /// Bytes that a container may write outside its volumes.
        writable_bytes_max: u64 = 1024 * MIB as u64,
        /// Bytes of an emptyDir that has no `sizeLimit`.
        empty_dir_bytes_max: u64 = 1024 * MIB as u64,
        /// Bytes of one container's log (kubelet's `containerLogMaxSize`); what is older is in one
        /// more file of that size, and so it is with the log of the run before. `logs` reads both.
        log_bytes_max: u64 = 10 * MIB as u64,
        /// Events that wait to be posted; more are dropped.
        events_waiting_max: usize = 4_096,
        /// Posted events that are remembered, so that a repetition counts up.
        events_remembered_max: usize = 2_000,
        /// Changes of one kind of object that wait to be taken.
        changes_waiting_max: usize = 1_024,
        /// DNS connections over TCP at a time; for one more the oldest goes that has not asked
        /// anything.
        dns_connections_max: usize = 256,
        /// Those of one peer.
        dns_connections_per_peer_max: usize = 16,
        /// DNS queries of one peer in a second; more are dropped.
        dns_queries_per_second_max: u32 = 10_000,
        /// Time such a connection may last.
        dns_connection_time_max: Duration = seconds(30),
        /// DNS queries for names outside the mesh at a time; for more the answer is SERVFAIL.
        dns_forwards_max: usize = 512,
        /// Time the host's name servers may take to answer one.
        dns_forward_timeout: Duration = seconds(5),
        /// Names of `--external` at a time, with those of /etc/hosts that lead to meshes.
        externals_max: usize = 1_024,
        /// Ports of Services and gateways on the host at a time; what is more is not published.
        published_ports_max: usize = 1_024,
        /// Pause before a port of the host that another program has is tried again.
        publish_retry_pause: Duration = seconds(1),
        /// Connections at a time that the agent relays: from the host to Services, and from pods
        /// without a sidecar to the host's network, each. More are closed at once.
        relay_connections_max: usize = 4_096,
        /// Those of one peer.
        relay_connections_per_peer_max: usize = 1_024,
        /// Time in which the destination of such a connection must be reached.
        relay_connect_timeout: Duration = seconds(10),
        /// Workloads of WorkloadGroups that are probed at one time; others wait their turn.
        health_checks_at_once_max: usize = 64,
        /// Silence after which the agent forgets a client of UDP that it relays; a datagram then
        /// goes by another socket.
        relay_datagrams_silence_max: Duration = seconds(60),
        /// Clients of the agent (`exec`, port-forward, `status`) at a time; more wait in the
        /// accept queue.
        agent_connections_max: usize = 512,
        /// Bytes of a request to the agent.
        agent_request_bytes_max: usize = MIB,
        /// Time a request to the agent may take to arrive, or a port to answer.
        agent_request_timeout: Duration = seconds(10),
        /// Time the API may take to begin an answer to the agent.
        api_answer_timeout: Duration = seconds(60),
        /// Bytes of one answer of the API, or of one event of a watch.
        api_body_bytes_max: usize = 256 * MIB,
        /// Time a gateway that asks for a port waits until a Gateway is seen that names it.
        gateway_port_wait: Duration = seconds(2),
        /// Time containers wait for their pod's proxy.
        proxy_start_timeout: Duration = seconds(30),
        /// Time a restarted proxy may take to be ready without making its pod unready.
        proxy_restart_timeout: Duration = seconds(2),
        /// Time a proxy may take to drain and end.
        proxy_grace_period: Duration = seconds(10),
        /// Time a hook after a container's start may take.
        hook_timeout: Duration = seconds(60),
        /// First pause before a container that ended is started again, as Kubernetes.
        restart_pause_min: Duration = seconds(10),
        /// Longest such pause.
        restart_pause_max: Duration = seconds(300),
        /// Time of running after which earlier ends are forgotten.
        restart_reset_after: Duration = seconds(600),
        /// Pause before an image that has no command is looked for again.
        image_retry_pause: Duration = seconds(10),
        /// Time that a program which an image needs may take to be built.
        program_build_timeout: Duration = seconds(1_800),
        /// Pause before a Secret or a ConfigMap that is missing is looked for again.
        config_retry_pause: Duration = seconds(2),
        /// Time the control plane may take to answer for the first time, after which `up` gives up.
        start_timeout: Duration = seconds(60),
        /// Time without progress after which `up` says what is not ready, and goes on.
        progress_timeout: Duration = seconds(30),
        /// Grace period of applications when the mesh ends.
        shutdown_grace_period: Duration = seconds(2),
        /// Time the end of the pods may take when the mesh ends.
        shutdown_timeout: Duration = seconds(3),
        /// Time the end of a mesh may take before it is killed.
        end_timeout: Duration = seconds(4),
        /// Time `down` waits for the end of a mesh.
        down_timeout: Duration = seconds(10),
    }
}

limits! {
    /// Limits of container images: of what is unpacked, and of registries.
    ImageLimits in "images" {
        /// Bytes of all images of a user together; for more, those go that were used longest ago.
        store_bytes_max: u64 = 20 * GIB,
        /// Bytes of one image, unpacked.
        unpacked_bytes_max: u64 = 8 * GIB,
        /// Files, folders and links of one image.
        files_max: u64 = 500_000,
        /// Folders in one another of an image.
        depth_max: usize = 128,
        /// Layers of an image, as container runtimes.
        layers_max: usize = 127,
        /// Bytes of a manifest, an index or a configuration, as registries.
        manifest_bytes_max: usize = 4 * MIB,
        /// Bytes of any other answer of a registry that is not a layer: tokens, errors.
        answer_bytes_max: usize = 256 * KIB,
        /// Time a registry may take to connect, to begin an answer, or between two parts of one.
        answer_timeout: Duration = seconds(30),
        /// Time an image may take to be pulled.
        pull_timeout: Duration = seconds(3_600),
        /// Images that a mesh pulls at a time.
        pulls_max: usize = 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_their_names() {
        let mut limits = Limits::default();
        limits.set("limits.proxy.head_bytes_max", "128KiB").unwrap();
        limits.set("limits.wire.keepalive", "1m30s").unwrap();
        limits.set("limits.control.objects_max", "7").unwrap();
        limits.set("limits.platform.log_bytes_max", "2Gi").unwrap();
        assert_eq!(limits.proxy.head_bytes_max, 128 << 10);
        assert_eq!(limits.wire.keepalive, Duration::from_secs(90));
        assert_eq!(limits.control.objects_max, 7);
        assert_eq!(limits.platform.log_bytes_max, 2 << 30);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for (name, value, expected) in [
            ("limits.proxy.head_bytes_min", "1", "ironmesh settings"),
            ("limits.head_bytes_max", "1", "ironmesh settings"),
            ("limits.proxy.head_bytes_max", "0", "a whole number above 0"),
            ("limits.proxy.head_bytes_max", "1.5", "a whole number above 0"),
            ("limits.proxy.head_bytes_max", "99999999999GiB", "a whole number above 0"),
            ("limits.proxy.h2_streams_max", "8GiB", "a whole number above 0"),
            ("limits.wire.keepalive", "10", "a duration"),
        ] {
            let error = Limits::default().set(name, value).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
    }

    #[test]
    fn every_row_can_be_set_to_what_it_shows() {
        let mut limits = Limits::default();
        let rows = limits.rows();
        assert!(rows.len() > 90, "{}", rows.len());
        for row in rows {
            limits.set(&row.name, &row.default).unwrap();
            assert!(row.about.ends_with('.'), "{}: {}", row.name, row.about);
        }
        assert_eq!(limits, Limits::default());
    }
}
