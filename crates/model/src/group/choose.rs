//! Which of its endpoints a group gives a request to.

use std::sync::Arc;

use twox_hash::XxHash64;

use super::near::Ranks;
use super::table::{Entry, Table};
use super::{Ask, Member, Members, Nearness, Tick};
use crate::draw::{Draw, Purpose};
use crate::policy::{Balance, Balancer, Warmup};

/// The endpoints among which one is chosen.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Indices into all endpoints.
    ready: Box<[u32]>,
    /// Running sums of their weights; `None`: they weigh alike.
    sums: Option<Box<[u64]>>,
    /// Whose turn it is, as positions in `ready`, where they take turns by weight.
    turns: Option<Box<[u32]>>,
    /// Where a hash leads to.
    table: Option<Table>,
}

impl Members {
    /// These endpoints, prepared for a way to choose among them.
    pub(super) fn of(
        all: Vec<Arc<Member>>,
        balance: Option<&Balance>,
        near: Option<&Nearness>,
    ) -> Self {
        let ready = (0u32..).zip(&all).filter(|(_, member)| member.endpoint.ready);
        let ready: Box<[u32]> = ready.map(|(index, _)| index).collect();
        let ranks = near.and_then(|near| Ranks::of(&all, near, balance));
        let level = match &ranks {
            Some(_) => Level::default(),
            None => Level::of(ready.clone(), &all, balance, None),
        };
        let (balance, near) = (balance.cloned(), near.cloned());
        Self { all: all.into(), ready, level, ranks, balance, near }
    }

    /// Whether they are just these endpoints, prepared for this way to choose.
    pub(super) fn are(
        &self,
        all: &[Arc<Member>],
        balance: Option<&Balance>,
        near: Option<&Nearness>,
    ) -> bool {
        self.balance.as_ref() == balance
            && self.near.as_ref() == near
            && self.all.len() == all.len()
            && self.all.iter().zip(all).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Level {
    /// `shares`: what each is to get of what a hash chooses, if not as its own weight says.
    pub(super) fn of(
        ready: Box<[u32]>,
        all: &[Arc<Member>],
        balance: Option<&Balance>,
        shares: Option<&[f64]>,
    ) -> Self {
        let weight = |index: &u32| all[*index as usize].endpoint.weight.max(1);
        let weights: Vec<u32> = ready.iter().map(weight).collect();
        let differ = weights.windows(2).any(|pair| pair[0] != pair[1]);
        let by = balance.map(|balance| &balance.by);
        let turns = (differ && matches!(by, Some(Balancer::RoundRobin))).then(|| turns(&weights));
        let sums = differ.then(|| {
            let mut sum = 0;
            let sums = weights.iter().map(|weight| {
                sum += u64::from(*weight);
                sum
            });
            sums.collect()
        });
        let table = match by {
            Some(Balancer::Hash(hash)) => {
                let entry = |(position, index): (u32, &u32)| {
                    let key = all[*index as usize].address()?.to_string();
                    let own = || f64::from(weights[position as usize]);
                    let weight = shares.map_or_else(own, |shares| shares[position as usize]);
                    Some(Entry { key, weight, value: position })
                };
                let entries = (0u32..).zip(&ready).filter_map(entry).collect();
                Table::of(hash.table, entries)
            }
            _ => None,
        };
        Self { ready, sums, turns, table }
    }

    /// Indices of its endpoints: those that are ready.
    pub(super) fn ready(&self) -> &[u32] {
        &self.ready
    }

    /// Whether it has the endpoint of this index.
    pub(super) fn has(&self, index: u32) -> bool {
        self.ready.contains(&index)
    }

    /// Chooses one that takes requests, if possible none that was tried before, and seldom one that is
    /// new.
    pub(super) fn choose<'m>(
        &self,
        by: &By<'_>,
        all: &'m [Arc<Member>],
        ask: &Ask<'_>,
        turn: impl FnOnce() -> u64,
        takes: impl Fn(&Member) -> bool,
    ) -> Option<&'m Arc<Member>> {
        let count = self.ready.len();
        let first_free = FirstFree { all, ready: &self.ready, ask, takes, by };
        match by.balancer {
            _ if count == 0 => None,
            Balancer::RoundRobin => match &self.turns {
                Some(turns) => {
                    let own = cycle(turn(), turns.len()).map(|at| turns[at] as usize);
                    first_free.of(own)
                }
                None => first_free.of(cycle(turn(), count)),
            },
            Balancer::Random | Balancer::Passthrough => first_free.of(self.drawn(ask, 0)),
            Balancer::LeastRequest => {
                let one = first_free.of(self.drawn(ask, 0))?;
                if one.state.under_way() == 0 {
                    return Some(one);
                }
                let others = self.drawn(ask, 1).filter(|at| !first_free.is(*at, one));
                let other = first_free.of(others).filter(|other| !ask.tried.contains(other));
                Some(other.filter(|other| other.is_less_busy(one)).unwrap_or(one))
            }
            Balancer::PeakEwma => {
                let one = first_free.of(self.drawn(ask, 0))?;
                let others = self.drawn(ask, 1).filter(|at| !first_free.is(*at, one));
                let other = first_free.of(others).filter(|other| !ask.tried.contains(other));
                let cost = |member: &Member| member.state.cost(by.now);
                Some(other.filter(|other| cost(other) < cost(one)).unwrap_or(one))
            }
            Balancer::Hash(_) => {
                let drawn = || ask.draw.choose(Purpose::Endpoint, 0, u64::MAX);
                let hash = ask.hash.unwrap_or_else(drawn);
                let offered = self.table.iter().flat_map(|table| table.values(hash));
                first_free.of(offered.map(|at| at as usize).chain(cycle(hash, count)))
            }
        }
    }

    /// Positions that are drawn, by weight, and then all of them. `nth`: which of several choices for
    /// one attempt it is.
    fn drawn<'a>(&'a self, ask: &Ask<'_>, nth: u64) -> impl Iterator<Item = usize> + 'a {
        let (draw, salt) = (ask.draw, (ask.tried.len() as u64) << 32 | nth << 16);
        let some = (0..DRAWS_MAX).map(move |again| self.draw(draw, salt | again));
        some.chain((0..1).flat_map(move |_| cycle(self.draw(draw, salt) as u64, self.ready.len())))
    }

    fn draw(&self, draw: Draw, salt: u64) -> usize {
        let choose = |bound| draw.choose(Purpose::Endpoint, salt, bound);
        match self.sums.as_deref() {
            None => choose(self.ready.len() as u64) as usize,
            Some(sums) => {
                let drawn = choose(sums.last().copied().unwrap_or_default());
                sums.partition_point(|sum| *sum <= drawn)
            }
        }
    }
}

/// How one is chosen, and when.
pub(super) struct By<'a> {
    pub(super) balancer: &'a Balancer,
    pub(super) warmup: Option<&'a Warmup>,
    /// Where time matters; the beginning of time where it does not.
    pub(super) now: Tick,
}

/// Looks for the first that takes requests and was not tried before.
struct FirstFree<'a, 'm, F> {
    all: &'m [Arc<Member>],
    ready: &'a [u32],
    ask: &'a Ask<'a>,
    takes: F,
    by: &'a By<'a>,
}

impl<'m, F: Fn(&Member) -> bool> FirstFree<'_, 'm, F> {
    /// The first of these positions; if there are only new ones, the first of those, and if all were
    /// tried, the first of all.
    fn of(&self, offered: impl Iterator<Item = usize>) -> Option<&'m Arc<Member>> {
        let (mut tried, mut new) = (None, None);
        for member in offered.filter_map(|at| self.member(at)).filter(|m| (self.takes)(m)) {
            if self.ask.tried.contains(member) {
                tried = tried.or(Some(member));
            } else if self.is_too_new(member) {
                new = new.or(Some(member));
            } else {
                return Some(member);
            }
        }
        new.or(tried)
    }

    /// Whether it is new, and this is none of the requests that it gets all the same.
    fn is_too_new(&self, member: &Member) -> bool {
        let Some(warmup) = self.by.warmup else { return false };
        let share = warmup.share_after(member.state.age(self.by.now));
        // Each endpoint has a draw of its own, by its port and the end of its address.
        let own = member
            .address()
            .map_or(0, |address| XxHash64::oneshot(0, address.to_string().as_bytes()));
        !self.ask.draw.is_in(share, Purpose::Warmup, own)
    }

    fn is(&self, at: usize, member: &Arc<Member>) -> bool {
        self.member(at).is_some_and(|other| Arc::ptr_eq(member, other))
    }

    fn member(&self, at: usize) -> Option<&'m Arc<Member>> {
        self.all.get(*self.ready.get(at)? as usize)
    }
}

impl Member {
    /// Whether it has fewer requests under way than another, for its weight.
    fn is_less_busy(&self, other: &Self) -> bool {
        let load = |member: &Self| u64::from(member.state.under_way()) + 1;
        let weight = |member: &Self| u64::from(member.endpoint.weight.max(1));
        load(self) * weight(other) < load(other) * weight(self)
    }
}

/// All positions from this one on.
fn cycle(first: u64, count: usize) -> impl Iterator<Item = usize> {
    let first = (first % count.max(1) as u64) as usize;
    (first..count).chain(0..first)
}

/// Whose turn it is in each round: as often as its weight says, and evenly spread.
fn turns(weights: &[u32]) -> Box<[u32]> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let rounds = (total / u64::from(divisor)).min(TURNS_MAX).max(weights.len() as u64);
    let mut turns: Vec<(f64, u32)> = Vec::new();
    for (position, weight) in (0u32..).zip(weights) {
        let share = rounds as f64 * f64::from(*weight) / total as f64;
        let count = (share.round() as u64).max(1);
        turns.extend((0..count).map(|turn| ((turn as f64 + 0.5) / share, position)));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    turns.into_iter().map(|(_, position)| position).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Draws before all endpoints are looked at in order.
const DRAWS_MAX: u64 = 8;

/// Turns after which those of endpoints of unlike weights begin anew.
const TURNS_MAX: u64 = 4096;
