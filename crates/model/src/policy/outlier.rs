//! Outlier detection: which endpoints get no requests for a while.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When an endpoint gets no requests for a while (`outlierDetection`). Counts are of failures one
/// after the other; 0: they eject nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`: answers of 5xx. Envoy's default is 5.
    pub consecutive_5xx: u32,
    /// `consecutiveGatewayErrors`: answers 502, 503 and 504. Default 0.
    pub consecutive_gateway: u32,
    /// `splitExternalLocalOriginErrors`: attempts without an answer are counted apart, against this
    /// (`consecutiveLocalOriginFailures`; Envoy's default is 5). `None`: they count as gateway errors.
    pub consecutive_local: Option<u32>,
    /// `interval`: how often it is looked whether an endpoint may come back. Envoy's default is 10 s.
    pub interval: Duration,
    /// `baseEjectionTime`: how long the first ejection lasts; the next is longer by as much. Envoy's
    /// default is 30 s.
    pub base_ejection: Duration,
    /// `maxEjectionPercent`: largest share of the endpoints that may be ejected. Envoy's default is
    /// 10, with which none of fewer than ten is.
    pub max_ejection_percent: u8,
    /// `minHealthPercent`: where the share of the endpoints that are not ejected is smaller, all are
    /// asked (Envoy's panic threshold). Istio's default is 0.
    pub min_health_percent: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local: None,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}
