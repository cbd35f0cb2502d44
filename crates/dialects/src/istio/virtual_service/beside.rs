//! What a rule does beside forwarding: failures on purpose, copies, cross-origin answers.

use ironmesh_model::FindingCode;
use ironmesh_model::draw::Share;
use ironmesh_model::route::{Abort, AbortStatus, Cors, Delay, Faults, HeaderOps, Mirror};
use ironmesh_model::text_match::TextMatch;

use super::{CorsPolicy, Destination, HttpRoute, Percent, Translator, UnmatchedPreflights, fields};
use crate::path::{field, item};

impl Translator<'_> {
    /// `fault`. A part that cannot be used is left out.
    pub(super) fn faults(&mut self, given: &fields::Fault, path: &str) -> Option<Box<Faults>> {
        let path = field(path, "fault");
        let delay = given.delay.as_ref().and_then(|d| self.delay(d, &field(&path, "delay")));
        let abort = given.abort.as_ref().and_then(|a| self.abort(a, &field(&path, "abort")));
        if given.delay.is_none() && given.abort.is_none() {
            let message = "a fault needs delay or abort";
            self.report(path, FindingCode::Missing, message);
        }
        (delay.is_some() || abort.is_some()).then(|| Box::new(Faults { delay, abort }))
    }

    fn delay(&mut self, given: &fields::Delay, path: &str) -> Option<Delay> {
        let share = self.fault_share(given.percentage.as_ref(), given.percent, path);
        let Some(by) = given.fixed_delay.filter(|by| !by.is_zero()) else {
            let message = "without fixedDelay, of a millisecond or more, nothing is held back";
            self.report(field(path, "fixedDelay"), FindingCode::NoEffect, message);
            return None;
        };
        Some(Delay { by, share: share? })
    }

    fn abort(&mut self, given: &fields::Abort, path: &str) -> Option<Abort> {
        let share = self.fault_share(given.percentage.as_ref(), given.percent, path);
        let with = match (given.http_status, &*given.grpc_status) {
            (Some(status), "") => {
                let status = u16::try_from(status).ok().filter(|s| (200..=599).contains(s));
                status.map(AbortStatus::Http).ok_or(("httpStatus", "it is a status of 200 to 599"))
            }
            (None, "") => {
                let message = "without httpStatus or grpcStatus nothing is answered";
                self.report(field(path, "httpStatus"), FindingCode::NoEffect, message);
                return None;
            }
            (None, name) => {
                let names = (0..).zip(GRPC_STATUSES);
                let status = names.into_iter().find(|(_, known)| *known == name);
                status.map(|(number, _)| AbortStatus::Grpc(number)).ok_or((
                    "grpcStatus",
                    "it is the name of a status of gRPC, such as UNAVAILABLE",
                ))
            }
            (Some(_), _) => Err(("grpcStatus", "an abort has httpStatus or grpcStatus, not both")),
        };
        match with {
            Ok(with) => Some(Abort { with, share: share? }),
            Err((name, message)) => {
                self.report(field(path, name), FindingCode::Invalid, message);
                None
            }
        }
    }

    /// The share of requests that fail. Without one nothing fails, as in Istio.
    fn fault_share(
        &mut self,
        percentage: Option<&Percent>,
        percent: Option<f64>,
        path: &str,
    ) -> Option<Share> {
        if percentage.is_none() && percent.is_none() {
            let message = "without percentage.value it is done to no request";
            self.report(field(path, "percentage"), FindingCode::NoEffect, message);
            return None;
        }
        let value = percentage.map_or(percent.unwrap_or_default(), |percentage| percentage.value);
        self.share(value, &field(path, "percentage"))
    }

    /// A share in percent.
    fn share(&mut self, percent: f64, path: &str) -> Option<Share> {
        if !(0.0..=100.0).contains(&percent) {
            self.report(path, FindingCode::Invalid, "a share is from 0 to 100 percent");
            return None;
        }
        Some(Share::of_percent(percent))
    }

    /// `mirror` and `mirrors`. One whose share cannot be used is left out.
    pub(super) fn mirrors(&mut self, given: &HttpRoute, path: &str) -> Vec<Mirror> {
        if given.mirror.is_some() && !given.mirrors.is_empty() {
            let message = "a rule has mirror or mirrors, not both";
            self.report(field(path, "mirrors"), FindingCode::Invalid, message);
        }
        let mut mirrors = Vec::new();
        if let Some(to) = &given.mirror {
            let whole = given.mirror_percent.map(f64::from);
            let percent = given.mirror_percentage.as_ref().map(|percentage| percentage.value);
            let share = field(path, "mirrorPercentage");
            mirrors.extend(self.mirror(to, percent.or(whole), "mirror", &share));
        } else if given.mirror_percentage.is_some() || given.mirror_percent.is_some() {
            let message = "without mirror nothing is copied";
            self.report(field(path, "mirrorPercentage"), FindingCode::NoEffect, message);
        }
        for (at, mirror) in given.mirrors.iter().enumerate() {
            let percent = mirror.percentage.as_ref().map(|percentage| percentage.value);
            let place = field(&item("mirrors", at), "destination");
            let share = format!("{path}.mirrors[{at}].percentage");
            mirrors.extend(self.mirror(&mirror.destination, percent, &place, &share));
        }
        mirrors
    }

    fn mirror(
        &mut self,
        to: &Destination,
        percent: Option<f64>,
        place: &str,
        share_path: &str,
    ) -> Option<Mirror> {
        let share = percent.map_or(Some(Share::ALL), |percent| self.share(percent, share_path));
        let to = self.backend_of(to, 1, HeaderOps::default());
        Some(Mirror { place: place.into(), to, share: share? })
    }

    /// `corsPolicy`.
    pub(super) fn cors(&mut self, given: &CorsPolicy, path: &str) -> Box<Cors> {
        let path = field(path, "corsPolicy");
        let mut allow_origins = Vec::new();
        for (at, origin) in given.allow_origins.iter().enumerate() {
            allow_origins
                .extend(self.string_match(origin, &item(&field(&path, "allowOrigins"), at)));
        }
        let old = given.allow_origin.iter().map(|origin| TextMatch::Exact(origin.as_str().into()));
        allow_origins.extend(old);
        let mut joined = |names: &[String], name: &str| {
            let names: Vec<&str> = (0..)
                .zip(names)
                .filter(|(at, given)| self.is_name_or_any(given, &item(&field(&path, name), *at)))
                .map(|(_, given)| given.as_str())
                .collect();
            (!names.is_empty()).then(|| names.join(",").into())
        };
        Box::new(Cors {
            allow_methods: joined(&given.allow_methods, "allowMethods"),
            allow_headers: joined(&given.allow_headers, "allowHeaders"),
            expose_headers: joined(&given.expose_headers, "exposeHeaders"),
            allow_origins,
            max_age: given.max_age.map(|age| age.as_secs()),
            allow_credentials: given.allow_credentials.unwrap_or_default(),
            answers_unmatched: given.unmatched_preflights == Some(UnmatchedPreflights::Ignore),
        })
    }
}

/// In the order of their numbers (gRPC, "Status codes and their use in gRPC").
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
