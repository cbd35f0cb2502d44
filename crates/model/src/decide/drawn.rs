//! What is drawn about a request beside its backend.

use std::time::Duration;

use super::{Decision, RuleAt};
use crate::draw::{Draw, Purpose, Share};
use crate::recorder::Event;
use crate::route::{AbortStatus, Faults, Mirror};
use crate::view::LinkedBackend;

impl Decision {
    /// How long the request is held back on purpose, before anything else.
    pub fn delay(&self, draw: Draw) -> Option<Duration> {
        let delay = self.winning_rule()?.rule.faults.as_deref()?.delay.as_ref()?;
        draw.is_in(delay.share, Purpose::Delay, self.rule?.number()).then_some(delay.by)
    }

    /// The copies that the winning rule asks for: whether each is sent, and where.
    pub fn mirrors(&self, draw: Draw) -> impl Iterator<Item = (&Mirror, &LinkedBackend, bool)> {
        let at = self.rule;
        let mirrors = self.winning_rule().map_or(&[][..], |compiled| &compiled.rule.mirrors);
        let linked = at.and_then(|at| {
            let route = self.applies()?.routes.get(at.route as usize)?;
            route.mirrors.get(at.rule as usize)
        });
        let linked = linked.map_or(&[][..], Vec::as_slice);
        let number = at.map_or(0, RuleAt::number);
        (0u64..).zip(mirrors).zip(linked).map(move |((index, mirror), backend)| {
            // Apart from the numbers of other rules, so that several copies are drawn apart.
            let drawn = draw.is_in(mirror.share, Purpose::Mirror, number ^ (index << 56));
            (mirror, backend, drawn)
        })
    }
}

/// What is drawn about failures on purpose, in words.
pub(super) fn faults(faults: &Faults, at: RuleAt, draw: Draw) -> Vec<Event> {
    let drawn = |what: String, share: Share, purpose| Event::Drawn {
        what,
        share: share.to_string(),
        taken: draw.is_in(share, purpose, at.number()),
    };
    let delay = faults
        .delay
        .map(|delay| drawn(format!("a delay of {:?}", delay.by), delay.share, Purpose::Delay));
    let abort = faults.abort.map(|abort| {
        let status = match abort.with {
            AbortStatus::Http(status) => format!("an abort with {status}"),
            AbortStatus::Grpc(status) => format!("an abort with status {status} of gRPC"),
        };
        drawn(status, abort.share, Purpose::Abort)
    });
    delay.into_iter().chain(abort).collect()
}
