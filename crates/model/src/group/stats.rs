//! What a group has seen, as Envoy counts it per cluster. Only what is out of the ordinary is counted, so
//! that a request that goes well writes nothing here.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Group, Tick};

/// Declares the counters of a group: a field, Envoy's name, what it counts.
macro_rules! counters {
    ($($field:ident = $name:literal, $doc:literal;)*) => {
        /// Counters of a group, which only grow.
        #[derive(Debug, Default)]
        pub struct GroupStats {
            $(#[doc = $doc] pub $field: Counter,)*
        }

        impl GroupStats {
            /// Calls `tell` with Envoy's name of each counter and what it has counted.
            fn each(&self, mut tell: impl FnMut(&'static str, u64)) {
                $(tell($name, self.$field.get());)*
            }
        }
    };
}

counters! {
    connections = "upstream_cx_total", "Connections that were made.";
    connects_failed = "upstream_cx_connect_fail", "Connections that could not be made.";
    pending = "upstream_rq_pending_total", "Requests for which no connection was ready.";
    pending_overflow = "upstream_rq_pending_overflow", "Requests that were refused since no more may wait for a connection.";
    retries = "upstream_rq_retry", "Attempts after the first.";
    retry_success = "upstream_rq_retry_success", "Those of them that were the last one needed.";
    retry_limit_exceeded = "upstream_rq_retry_limit_exceeded", "Requests that would have been tried again if there had been attempts left.";
    retry_overflow = "upstream_rq_retry_overflow", "Attempts that a budget did not allow.";
    timeouts = "upstream_rq_timeout", "Requests whose time was over.";
    per_try_timeouts = "upstream_rq_per_try_timeout", "Attempts whose time was over.";
    resets = "upstream_rq_rx_reset", "Attempts that the endpoint broke off.";
}

/// A number of events.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that Envoy tells of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// Its name behind that of the cluster: `upstream_rq_retry`.
    pub name: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// What it is now.
    pub value: u64,
}

impl Group {
    /// Counters of what was out of the ordinary.
    pub fn stats(&self) -> &GroupStats {
        &self.stats
    }

    /// Its name, as Istio names clusters: `outbound|PORT|SUBSET|HOST`.
    pub fn cluster_name(&self) -> String {
        let subset = self.key.subset.as_deref().unwrap_or_default();
        format!("outbound|{}|{subset}|{}", self.key.port, self.key.service.hostname)
    }

    /// All that Envoy tells of a cluster and that is known here, in order of the names.
    /// `open`: connections and requests that are open to its endpoints.
    pub fn statistics(&self, now: Tick, (connections, requests): (u64, u64)) -> Vec<Statistic> {
        let mut all = Vec::new();
        self.stats.each(|name, value| all.push(Statistic { name, is_counter: true, value }));
        let mut gauge = |name, value: u64| {
            all.push(Statistic { name, is_counter: false, value });
        };
        let members = self.members();
        let count = |of: &dyn Fn(&super::Member) -> bool| {
            members.all.iter().filter(|member| of(member)).count() as u64
        };
        gauge("membership_total", members.all.len() as u64);
        gauge(
            "membership_healthy",
            count(&|member| member.endpoint.ready && !self.is_ejected(member, now)),
        );
        gauge("outlier_detection.ejections_active", count(&|member| self.is_ejected(member, now)));
        gauge("upstream_cx_active", connections);
        gauge("upstream_rq_active", requests);
        let (open, waiting) = self.usage();
        gauge("upstream_rq_pending_active", u64::from(waiting));
        let pool = self.pool();
        let left = |max: Option<u32>, used: u32| max.map(|max| u64::from(max.saturating_sub(used)));
        let connections_left = pool.and_then(|pool| left(pool.connections_max, open));
        let pending_left = pool.and_then(|pool| left(pool.pending_max, waiting));
        for (name, left_name, left) in [
            (
                "circuit_breakers.default.cx_open",
                "circuit_breakers.default.remaining_cx",
                connections_left,
            ),
            (
                "circuit_breakers.default.rq_pending_open",
                "circuit_breakers.default.remaining_pending",
                pending_left,
            ),
        ] {
            gauge(name, u64::from(left == Some(0)));
            if let Some(left) = left {
                gauge(left_name, left);
            }
        }
        let ejections = members
            .all
            .iter()
            .map(|member| u64::from(member.state.ejections.load(Ordering::Relaxed)));
        let name = "outlier_detection.ejections_enforced_total";
        let value = ejections.sum();
        all.push(Statistic { name, is_counter: true, value });
        all.sort_by_key(|statistic| statistic.name);
        all
    }
}
