//! Writing down how a decision came about. The proxy records nothing, at no cost.

use serde::{Deserialize, Serialize};

use crate::policy::MtlsMode;

/// Receives what [`crate::decide()`] does, step by step.
pub trait Recorder {
    /// Takes one event; one that does not record never calls the closure.
    fn record(&mut self, event: impl FnOnce() -> Event);

    /// Takes events, in order; one that does not record never calls the closure.
    fn record_all(&mut self, events: impl FnOnce() -> Vec<Event>);
}

/// Records nothing; compiles to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Recorder for Silent {
    fn record(&mut self, _: impl FnOnce() -> Event) {}

    fn record_all(&mut self, _: impl FnOnce() -> Vec<Event>) {}
}

/// Keeps every event.
#[derive(Clone, Debug, Default)]
pub struct Trace(pub Vec<Event>);

impl Recorder for Trace {
    fn record(&mut self, event: impl FnOnce() -> Event) {
        self.0.push(event());
    }

    fn record_all(&mut self, events: impl FnOnce() -> Vec<Event>) {
        self.0.extend(events());
    }
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What applies at this host or address was looked up.
    Resolved {
        /// The key.
        key: String,
        /// What came of it.
        outcome: String,
    },
    /// What a workload takes at a port was found.
    Takes {
        /// Which connections.
        mode: MtlsMode,
        /// The port of the workload.
        port: u16,
        /// The policy that says so, in words.
        by: String,
    },
    /// A rule was tried and lost.
    Lost {
        /// `NAMESPACE/NAME#RULE` of the route.
        route: String,
        /// Why, for the alternative that came furthest.
        why: String,
        /// Why each of its alternatives lost, `match[1]: WHY`; nothing if there is one alone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        alternatives: Vec<String>,
    },
    /// A rule won.
    Won {
        /// `NAMESPACE/NAME#RULE` of the route.
        route: String,
        /// Which alternative of its matches, in words.
        by: String,
    },
    /// Chance decided whether something is done.
    Drawn {
        /// What: `a delay of 7s`.
        what: String,
        /// Of how many requests.
        share: String,
        /// Whether it is done.
        taken: bool,
    },
    /// A backend was chosen by weight.
    Weighted {
        /// The backends with weights.
        choices: Vec<Choice>,
        /// The number drawn, below the sum of the weights.
        drawn: u64,
        /// Index of the chosen one.
        chosen: usize,
    },
}

/// One weighted backend of an [`Event::Weighted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Host.
    pub host: String,
    /// Subset, if one is named.
    pub subset: Option<String>,
    /// Weight.
    pub weight: u32,
}
