//! The message of connection pools.

use std::time::Duration;

use ironmesh_model::policy::{ConnectionPool, Http2Keepalive, Keepalive};
use prost::Message;

use super::super::common::nanoseconds;
use super::super::{Coded, DecodeError};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in super::super) struct PoolMessage {
    #[prost(uint32, optional, tag = "1")]
    connections_max: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pending_max: Option<u32>,
    #[prost(uint64, optional, tag = "3")]
    connect_timeout_nanoseconds: Option<u64>,
    #[prost(message, optional, tag = "4")]
    keepalive: Option<KeepaliveMessage>,
    #[prost(uint64, optional, tag = "5")]
    connection_age_max_nanoseconds: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    tcp_idle_timeout_nanoseconds: Option<u64>,
    #[prost(uint32, optional, tag = "7")]
    requests_max: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    requests_per_connection_max: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    retries_max: Option<u32>,
    #[prost(uint64, optional, tag = "10")]
    http_idle_timeout_nanoseconds: Option<u64>,
    #[prost(bool, optional, tag = "11")]
    upgrade: Option<bool>,
    #[prost(bool, tag = "12")]
    client_protocol: bool,
    #[prost(uint32, optional, tag = "13")]
    streams_max: Option<u32>,
    #[prost(message, optional, tag = "14")]
    http2_keepalive: Option<Http2KeepaliveMessage>,
}

impl Coded for ConnectionPool {
    type Message = PoolMessage;

    fn message(&self) -> PoolMessage {
        PoolMessage {
            connections_max: self.connections_max,
            pending_max: self.pending_max,
            connect_timeout_nanoseconds: self.connect_timeout.map(nanoseconds),
            keepalive: self.keepalive.as_ref().map(Coded::message),
            connection_age_max_nanoseconds: self.connection_age_max.map(nanoseconds),
            tcp_idle_timeout_nanoseconds: self.tcp_idle_timeout.map(nanoseconds),
            requests_max: self.requests_max,
            requests_per_connection_max: self.requests_per_connection_max,
            retries_max: self.retries_max,
            http_idle_timeout_nanoseconds: self.http_idle_timeout.map(nanoseconds),
            upgrade: self.upgrade,
            client_protocol: self.client_protocol,
            streams_max: self.streams_max,
            http2_keepalive: self.http2_keepalive.as_ref().map(Coded::message),
        }
    }

    fn value(m: PoolMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            connections_max: m.connections_max,
            connect_timeout: m.connect_timeout_nanoseconds.map(Duration::from_nanos),
            keepalive: m.keepalive.map(Coded::value).transpose()?,
            connection_age_max: m.connection_age_max_nanoseconds.map(Duration::from_nanos),
            tcp_idle_timeout: m.tcp_idle_timeout_nanoseconds.map(Duration::from_nanos),
            pending_max: m.pending_max,
            requests_max: m.requests_max,
            requests_per_connection_max: m.requests_per_connection_max,
            retries_max: m.retries_max,
            http_idle_timeout: m.http_idle_timeout_nanoseconds.map(Duration::from_nanos),
            upgrade: m.upgrade,
            client_protocol: m.client_protocol,
            streams_max: m.streams_max,
            http2_keepalive: m.http2_keepalive.map(Coded::value).transpose()?,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in super::super) struct KeepaliveMessage {
    #[prost(uint32, optional, tag = "1")]
    probes: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    time_nanoseconds: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    interval_nanoseconds: Option<u64>,
}

impl Coded for Keepalive {
    type Message = KeepaliveMessage;

    fn message(&self) -> KeepaliveMessage {
        KeepaliveMessage {
            probes: self.probes,
            time_nanoseconds: self.time.map(nanoseconds),
            interval_nanoseconds: self.interval.map(nanoseconds),
        }
    }

    fn value(m: KeepaliveMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            probes: m.probes,
            time: m.time_nanoseconds.map(Duration::from_nanos),
            interval: m.interval_nanoseconds.map(Duration::from_nanos),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in super::super) struct Http2KeepaliveMessage {
    #[prost(uint64, tag = "1")]
    interval_nanoseconds: u64,
    #[prost(uint64, tag = "2")]
    timeout_nanoseconds: u64,
}

impl Coded for Http2Keepalive {
    type Message = Http2KeepaliveMessage;

    fn message(&self) -> Http2KeepaliveMessage {
        Http2KeepaliveMessage {
            interval_nanoseconds: nanoseconds(self.interval),
            timeout_nanoseconds: nanoseconds(self.timeout),
        }
    }

    fn value(m: Http2KeepaliveMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            interval: Duration::from_nanos(m.interval_nanoseconds),
            timeout: Duration::from_nanos(m.timeout_nanoseconds),
        })
    }
}
