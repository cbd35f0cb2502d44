//! What operators of a format of the access log stand for, at the end of a request or a connection.

use std::time::Duration;

use ironmesh_model::header_value::first_of;
use ironmesh_model::operator::{Command, Value};
use ironmesh_model::{Identity, Reason};
use ironmesh_telemetry::AccessRecord;
use ironmesh_telemetry::access_log::time_text;

use crate::connection::Connection;
use crate::http::exchange::Exchange;
use crate::http::told::{self, Told, port};
use crate::message::{RequestHead, ResponseHead};
use crate::outcome::Outcome;

/// A request or an opaque connection that has ended.
pub(super) struct Logged<'a> {
    pub(super) record: &'a AccessRecord<'a>,
    pub(super) connection: &'a Connection,
    pub(super) outcome: &'a Outcome,
    /// The request, and the head of the answer that was made last.
    pub(super) exchange: Option<(&'a Exchange<'a>, &'a ResponseHead)>,
}

impl<'a> Logged<'a> {
    /// What an operator stands for; `None`: it is not there.
    pub(super) fn of(&self, command: Command, argument: &str) -> Option<Value<'a>> {
        let Self { record, outcome, .. } = self;
        Some(match command {
            Command::Request => return first_of(argument, |name| self.request(name)),
            Command::RequestWithoutQuery => {
                let value = first_of(argument, |name| self.request(name))?.to_string();
                let end = value.find('?').unwrap_or(value.len());
                value[..end].to_owned().into()
            }
            Command::Response => return first_of(argument, |name| self.response(name)),
            Command::StartTime => time_text(argument, record.start).into(),
            Command::Protocol => record.protocol?.into(),
            Command::ResponseCode => Value::Number(u64::from(record.response_code)),
            Command::ResponseCodeDetails => record.response_code_details?.into(),
            Command::ResponseFlags => Value::Text(record.flags()),
            Command::ResponseFlagsLong => record.flags_long().into(),
            Command::TerminationDetails => record.connection_termination_details?.into(),
            Command::UpstreamFailure => record.upstream_transport_failure_reason?.into(),
            Command::BytesReceived => Value::Number(record.bytes_received),
            Command::BytesSent => Value::Number(record.bytes_sent),
            Command::Duration => milliseconds(record.duration),
            Command::ResponseDuration => milliseconds(self.to_first_byte()?),
            Command::ResponseTxDuration => {
                milliseconds(record.duration.saturating_sub(self.to_first_byte()?))
            }
            Command::GrpcStatus => self.grpc_status(argument)?,
            Command::GrpcStatusNumber => self.grpc_status("NUMBER")?,
            Command::Attempts => Value::Number(u64::from(outcome.attempts)),
            Command::UpstreamLocalAddress => Value::Address(outcome.upstream_local?),
            Command::UpstreamLocalIp => Value::Ip(outcome.upstream_local?.ip()),
            Command::UpstreamLocalPort => port(outcome.upstream_local?),
            Command::DownstreamTlsVersion => self.connection.tls_version?.into(),
            Command::DownstreamLocalIdentity => {
                self.connection.peer_identity.as_ref()?;
                self.own_identity()?
            }
            Command::UpstreamIdentity => self.endpoint_identity()?.to_string().into(),
            Command::UpstreamLocalIdentity => {
                self.endpoint_identity()?;
                self.own_identity()?
            }
            Command::AccessLogType => match self.exchange {
                Some(_) => "DownstreamEnd".into(),
                None => "TcpConnectionEnd".into(),
            },
            Command::StreamId => record.request_id?.into(),
            Command::TraceId => {
                let context = self.request("traceparent")?.to_string();
                context.split('-').nth(1)?.to_owned().into()
            }
            Command::Draw => record.draw?.to_string().into(),
            Command::Reason => record.reason.code().into(),
            other => return self.told().of(other, argument),
        })
    }

    fn told(&self) -> Told<'a> {
        Told {
            connection: self.connection,
            client: self.record.downstream_remote_address.unwrap_or(self.connection.peer),
            decision: self.outcome.decision.as_ref(),
            upstream: self.outcome.upstream,
            started: self.outcome.started,
        }
    }

    fn to_first_byte(&self) -> Option<Duration> {
        let outcome = self.outcome;
        Some(outcome.first_byte?.duration_since(outcome.started))
    }

    /// Whom the endpoint has proved to be.
    fn endpoint_identity(&self) -> Option<&'a Identity> {
        let outcome = self.outcome;
        let failed = matches!(outcome.reason, Reason::ConnectFailed | Reason::PeerUntrusted);
        let tls = match &outcome.member {
            Some(member) => &member.tls,
            None => outcome.decision.as_ref()?.upstream_tls(),
        };
        tls.expected().filter(|_| outcome.upstream_tls && !failed)
    }

    fn own_identity(&self) -> Option<Value<'a>> {
        let credentials = self.connection.workload.credentials.load();
        Some(credentials.as_ref()?.identity().to_string().into())
    }

    /// A header of the request, as it was sent on; but path and authority are also known as the client
    /// sent them, and these are what the lines have by default.
    fn request(&self, name: &str) -> Option<Value<'a>> {
        let (exchange, _) = self.exchange?;
        let head: &'a RequestHead = exchange.head;
        match name {
            ":authority" | "host" => Some(self.record.authority?.into()),
            // Nobody but the proxy itself is believed to have rewritten it.
            "x-envoy-original-path" => Some(exchange.sent.as_deref()?.target.as_deref()?.into()),
            _ => told::of_request(self.connection, head, name),
        }
    }

    /// A header of the answer, if there was one.
    fn response(&self, name: &str) -> Option<Value<'a>> {
        let (_, response) = self.exchange?;
        if name == "x-envoy-upstream-service-time" {
            return Some(self.record.upstream_service_time?.as_millis().to_string().into());
        }
        // The memory of a head serves many requests.
        let is_own = self.outcome.status != 0 && response.status == self.outcome.status;
        is_own.then(|| told::field(&response.fields, name))?
    }

    /// The status of an answer to gRPC, in one of the forms that Envoy has.
    fn grpc_status(&self, form: &str) -> Option<Value<'a>> {
        // Anyone may send the field; only gRPC means it.
        self.exchange.filter(|(exchange, _)| exchange.grpc)?;
        let status = self.outcome.grpc_status?;
        let (camel, snake) = *GRPC_STATUSES.get(usize::from(status))?;
        Some(match form {
            "NUMBER" => Value::Number(u64::from(status)),
            "SNAKE_STRING" => snake.into(),
            _ => camel.into(),
        })
    }
}

fn milliseconds(duration: Duration) -> Value<'static> {
    Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The names of gRPC's statuses, as Envoy writes them.
const GRPC_STATUSES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];
