//! Endpoints by how near they are to their caller: ranks, of which the next one gets requests as far
//! as those before are not well (Envoy's priorities), and in a rank parts with shares (its weighted
//! localities).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use smallvec::SmallVec;

use super::choose::{By, Level};
use super::{Ask, Member, Padded, Tick};
use crate::draw::Purpose;
use crate::place::{Locality, NETWORK, Place};
use crate::policy::{Balance, Balancer, LocalityBalance, Preference, ZoneAware};
use crate::service::Workload;

/// Whose endpoints are preferred for being near, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearness {
    /// Which endpoints are preferred.
    pub preference: Preference,
    /// The caller.
    pub caller: Arc<Workload>,
}

/// The endpoints of a group, the preferred ones first.
#[derive(Debug)]
pub(super) struct Ranks {
    ranks: Box<[Rank]>,
    /// While none is ejected.
    loads: Loads,
}

/// Endpoints that are as near as each other.
#[derive(Debug)]
struct Rank {
    parts: Box<[Part]>,
    /// How many there are, with those that are not ready if they count.
    all: u64,
}

/// Those of them that share requests.
#[derive(Debug)]
struct Part {
    level: Level,
    weight: u64,
    all: u64,
    /// Whose turn it is, where they take turns.
    cursor: Padded<AtomicU64>,
}

/// How much of the requests each rank gets.
type Loads = SmallVec<[Load; 4]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    percent: u64,
    /// Whether so few are well that those that are ejected get requests, too.
    panics: bool,
}

/// Which endpoints are ejected, where any may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ejecting {
    pub(super) now: Tick,
    /// The share of a rank's endpoints below which ejections do not count.
    pub(super) percent_min: u64,
}

impl Ranks {
    /// Ranks of these endpoints; `None` if all are preferred alike.
    pub(super) fn of(
        all: &[Arc<Member>],
        near: &Nearness,
        balance: Option<&Balance>,
    ) -> Option<Self> {
        let Nearness { preference, caller } = near;
        let counts = |member: &Member| preference.counts_unready || member.endpoint.ready;
        let counted = (0u32..).zip(all).filter(|(_, member)| counts(member));
        let caller = caller.place();
        let here = Locality::parse(caller.locality);
        let make = Make { all, balance };
        if !preference.rule.distribute.is_empty() {
            let mut rules = preference.rule.distribute.iter();
            let rule = rules.find(|rule| here.is_in(&rule.from))?;
            let parts = by_share(counted, &rule.to);
            return Some(Self::new(vec![make.rank(parts)]));
        }
        let mut ranks: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (index, member) in counted {
            let place = member.endpoint.place();
            ranks.entry(number(&preference.rule, &caller, &place)).or_default().push(index);
        }
        let mut made = Vec::new();
        for indices in ranks.into_values() {
            // Only in the first is there a zone of the caller's own.
            let zones = preference.rule.zone_aware.filter(|_| made.is_empty());
            let parts = zones.and_then(|zones| by_zone(all, &indices, here, zones));
            made.push(make.rank(parts.unwrap_or_else(|| vec![(1, indices)])));
        }
        let is_flat = made.len() < 2 && made.iter().all(|rank| rank.parts.len() < 2);
        (!is_flat).then(|| Self::new(made))
    }

    fn new(ranks: Vec<Rank>) -> Self {
        let loads = loads(ranks.iter().map(|rank| (rank.ready(), rank.all)), 0);
        Self { ranks: ranks.into(), loads }
    }

    /// In which rank the endpoint of this index is; `None` if it gets no requests from this caller.
    pub(super) fn rank_of(&self, index: u32) -> Option<u32> {
        let has = |rank: &Rank| rank.parts.iter().any(|part| part.level.has(index));
        self.ranks.iter().position(has).and_then(|rank| u32::try_from(rank).ok())
    }

    /// Chooses one that takes requests: in a rank that is drawn by how well each is, but none that was
    /// tried before while another rank has one that was not.
    pub(super) fn choose<'m>(
        &self,
        by: &By<'_>,
        all: &'m [Arc<Member>],
        ask: &Ask<'_>,
        turn: impl Fn(&AtomicU64) -> u64,
        ejecting: Option<Ejecting>,
    ) -> Option<&'m Arc<Member>> {
        let now = ejecting.map(|ejecting| {
            let health = |rank: &Rank| (rank.well(all, ejecting.now), rank.all);
            loads(self.ranks.iter().map(health), ejecting.percent_min)
        });
        let loads = now.as_ref().unwrap_or(&self.loads);
        let left = &self.left(all, ask)[..];
        let first = self.draw(by, ask, loads, left);
        // What is left for others comes last.
        let others = |is_left: bool| {
            let is_one = move |at: &usize| *at != first && is_left == left.contains(at);
            (0..self.ranks.len()).filter(is_one)
        };
        let mut tried = None;
        for at in [first].into_iter().chain(others(false)).chain(others(true)) {
            let takes = |member: &Member| match ejecting {
                Some(Ejecting { now, .. }) => loads[at].panics || !member.state.is_ejected(now),
                None => true,
            };
            let found = self.ranks[at].choose(by, all, ask, &turn, takes);
            match found {
                Some(member) if !ask.tried.contains(member) => return Some(member),
                found => tried = tried.or(found),
            }
        }
        tried
    }

    /// The ranks that another attempt leaves for others: with each second attempt those in which
    /// there were any, unless no other can take requests (Envoy's `previous_priorities`).
    fn left(&self, all: &[Arc<Member>], ask: &Ask<'_>) -> SmallVec<[usize; 4]> {
        let mut left = SmallVec::new();
        for tried in ask.tried.in_left_localities() {
            let is = |member: &Arc<Member>| Arc::ptr_eq(&member.state, &tried.state);
            let index = all.iter().position(is).and_then(|at| u32::try_from(at).ok());
            let rank = index.and_then(|index| self.rank_of(index)).map(|rank| rank as usize);
            left.extend(rank.filter(|rank| !left.contains(rank)));
        }
        let mut others = (0..self.ranks.len()).filter(|at| !left.contains(at));
        if !others.any(|at| self.ranks[at].ready() > 0) {
            left.clear();
        }
        left
    }

    fn draw(&self, by: &By<'_>, ask: &Ask<'_>, loads: &Loads, left: &[usize]) -> usize {
        let is_open = |at: &usize| !left.contains(at);
        let total: u64 = (0..loads.len()).filter(is_open).map(|at| loads[at].percent).sum();
        let mut point = match (by.balancer, ask.hash) {
            (Balancer::Hash(_), Some(hash)) => hash % total.max(1),
            _ => ask.draw.choose(Purpose::Locality, ask.tried.len() as u64, total),
        };
        for at in (0..loads.len()).filter(is_open) {
            if point < loads[at].percent {
                return at;
            }
            point -= loads[at].percent;
        }
        (0..self.ranks.len()).find(is_open).unwrap_or(0)
    }
}

impl Rank {
    fn ready(&self) -> u64 {
        self.parts.iter().map(|part| part.level.ready().len() as u64).sum()
    }

    /// How many take requests.
    fn well(&self, all: &[Arc<Member>], now: Tick) -> u64 {
        self.parts.iter().map(|part| part.well(all, now)).sum()
    }

    fn choose<'m>(
        &self,
        by: &By<'_>,
        all: &'m [Arc<Member>],
        ask: &Ask<'_>,
        turn: impl Fn(&AtomicU64) -> u64,
        takes: impl Fn(&Member) -> bool + Copy,
    ) -> Option<&'m Arc<Member>> {
        let choose = |part: &Part| part.level.choose(by, all, ask, || turn(&part.cursor.0), takes);
        let [first, .., _] = &*self.parts else { return self.parts.first().and_then(choose) };
        let weights: SmallVec<[u64; 8]> =
            self.parts.iter().map(|part| part.effective_weight(all, takes)).collect();
        let total = weights.iter().sum();
        let salt = ask.tried.len() as u64 | 1 << 32;
        let mut point = ask.draw.choose(Purpose::Locality, salt, total);
        let mut drawn = first;
        for (part, weight) in self.parts.iter().zip(&weights) {
            drawn = part;
            if point < *weight {
                break;
            }
            point -= weight;
        }
        let found = choose(drawn);
        if found.is_some_and(|member| !ask.tried.contains(member)) {
            return found;
        }
        let others = self.parts.iter().filter(|part| !std::ptr::eq(*part, drawn));
        let mut others = others.filter_map(choose);
        others.find(|member| !ask.tried.contains(member)).or(found)
    }
}

impl Part {
    fn well(&self, all: &[Arc<Member>], now: Tick) -> u64 {
        let ready = self.level.ready().iter().filter_map(|index| all.get(*index as usize));
        ready.filter(|member| !member.state.is_ejected(now)).count() as u64
    }

    /// Its weight, less as soon as so few of it are well that the others may have to help out.
    fn effective_weight(&self, all: &[Arc<Member>], takes: impl Fn(&Member) -> bool) -> u64 {
        let ready = self.level.ready().iter().filter_map(|index| all.get(*index as usize));
        let well = ready.filter(|member| takes(member)).count() as u64;
        self.weight * (OVERPROVISIONING * well * 100 / self.all.max(1)).min(10_000)
    }
}

/// What ranks are made of.
struct Make<'a> {
    all: &'a [Arc<Member>],
    balance: Option<&'a Balance>,
}

impl Make<'_> {
    /// A rank of parts with these weights. A hash chooses among all of them by one table.
    fn rank(&self, mut parts: Vec<(u64, Vec<u32>)>) -> Rank {
        let all = parts.iter().map(|(_, indices)| indices.len() as u64).sum();
        let by_hash = matches!(self.balance, Some(Balance { by: Balancer::Hash(_), .. }));
        if by_hash && parts.len() > 1 {
            let mut shares = Vec::new();
            for (weight, indices) in &parts {
                let own = |index: &u32| self.weight(*index) as f64;
                let total: f64 = indices.iter().map(own).sum();
                let ready = indices.iter().filter(|index| self.is_ready(**index));
                shares.extend(ready.map(|index| (*index, own(index) * *weight as f64 / total)));
            }
            shares.sort_by_key(|(index, _)| *index);
            let (ready, shares): (Vec<u32>, Vec<f64>) = shares.into_iter().unzip();
            let level = Level::of(ready.into(), self.all, self.balance, Some(&shares));
            let part = Part { level, weight: 1, all, cursor: Padded::default() };
            return Rank { parts: [part].into(), all };
        }
        let parts = parts.drain(..).map(|(weight, indices)| {
            let all = indices.len() as u64;
            let ready = indices.into_iter().filter(|index| self.is_ready(*index)).collect();
            let level = Level::of(ready, self.all, self.balance, None);
            Part { level, weight, all, cursor: Padded::default() }
        });
        Rank { parts: parts.collect(), all }
    }

    fn is_ready(&self, index: u32) -> bool {
        self.all[index as usize].endpoint.ready
    }

    fn weight(&self, index: u32) -> u64 {
        u64::from(self.all[index as usize].endpoint.weight.max(1))
    }
}

/// How far away an endpoint is; only the order counts (Istio, `ApplyLocalityLoadBalancer`).
fn number(rule: &LocalityBalance, caller: &Place<'_>, endpoint: &Place<'_>) -> u32 {
    let (here, there) = (Locality::parse(caller.locality), Locality::parse(endpoint.locality));
    let stand_in = rule.failover.iter().find(|own| &*own.from == here.region);
    let by_locality = if rule.zone_aware.is_some() {
        match stand_in {
            _ if here.region == there.region => 0,
            Some(own) if &*own.to == there.region => 1,
            _ => 2,
        }
    } else if rule.failover_priority.is_empty() || !rule.failover.is_empty() {
        match (here.distance(there), stand_in) {
            (3, Some(own)) if &*own.to != there.region => 4,
            (distance, _) => distance,
        }
    } else {
        0
    };
    by_labels(rule, caller, endpoint) * LOCALITIES + by_locality
}

/// The same by labels. Who is on another network is behind all others, whatever else it has in common.
fn by_labels(rule: &LocalityBalance, caller: &Place<'_>, endpoint: &Place<'_>) -> u32 {
    let names = &rule.failover_priority;
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let mut behind = 0;
    for (at, wanted) in (0..).zip(names) {
        let (name, value) = match wanted.split_once('=') {
            Some((name, value)) => (name, value),
            None => (&**wanted, caller.label(wanted).unwrap_or_default()),
        };
        if endpoint.label(name).unwrap_or_default() == value {
            continue;
        }
        if at == 0 && &**wanted == NETWORK {
            behind = count;
            continue;
        }
        return behind + count - at;
    }
    behind
}

/// The endpoints of each locality that gets a share, with that.
fn by_share<'a>(
    counted: impl Iterator<Item = (u32, &'a Arc<Member>)>,
    to: &BTreeMap<crate::Name, u32>,
) -> Vec<(u64, Vec<u32>)> {
    let mut localities: BTreeMap<&str, (u64, Vec<u32>)> = BTreeMap::new();
    for (index, member) in counted {
        let (weight, indices) = localities.entry(&member.endpoint.locality).or_default();
        *weight += u64::from(member.endpoint.weight.max(1));
        indices.push(index);
    }
    let mut parts = Vec::new();
    for (rule, share) in to {
        let covered = localities.extract_if(.., |text, _| Locality::parse(text).is_in(rule));
        let covered: Vec<(u64, Vec<u32>)> = covered.map(|(_, locality)| locality).collect();
        let total: u64 = covered.iter().map(|(weight, _)| weight).sum();
        parts.extend(covered.into_iter().map(|(weight, indices)| {
            ((weight * u64::from(*share)).div_ceil(total.max(1)), indices)
        }));
    }
    parts
}

/// Parts by zone, as if callers were spread evenly over the zones: the caller's own gets all of its
/// requests if it has its share of the endpoints, else as many as it has, and the rest go to zones
/// that have more (Envoy, zone-aware routing). `None`: zones do not matter.
fn by_zone(
    all: &[Arc<Member>],
    indices: &[u32],
    here: Locality<'_>,
    rule: ZoneAware,
) -> Option<Vec<(u64, Vec<u32>)>> {
    let mut zones: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for index in indices {
        let zone = Locality::parse(&all[*index as usize].endpoint.locality).zone;
        zones.entry(zone).or_default().push(*index);
    }
    let own = zones.get(here.zone)?.len();
    let (total, count) = (indices.len(), zones.len());
    if count < 2 || (total as u64) < rule.endpoints_min {
        return None;
    }
    // In parts of the total times the number of zones, so that all numbers are whole.
    let kept = (own * count).min(total);
    let spare = |size: usize| (size * count).saturating_sub(total);
    let spares: usize = zones.values().map(|zone| spare(zone.len())).sum();
    let weight = |zone: &str, size: usize| {
        if zone == here.zone { kept * spares.max(1) } else { (total - kept) * spare(size) }
    };
    let parts = zones.into_iter().map(|(zone, own)| (weight(zone, own.len()) as u64, own));
    Some(parts.filter(|(weight, _)| *weight > 0).collect())
}

/// How much each rank gets, by how many of its endpoints are well and how many it has: the first as
/// much as it can take, and the next what is left (Envoy, "Priority levels" and "Panic threshold").
fn loads(ranks: impl Iterator<Item = (u64, u64)> + Clone, percent_min: u64) -> Loads {
    let available = |(well, all): (u64, u64)| (OVERPROVISIONING * well / all.max(1)).min(100);
    let total = ranks.clone().map(available).sum::<u64>().min(100);
    let panics = |(well, all): (u64, u64)| total < 100 && well * 100 < percent_min * all;
    let all_panic = ranks.clone().all(panics);
    let sizes: u64 = ranks.clone().map(|(_, all)| all).sum();
    let mut left = 100;
    let mut loads: Loads = ranks
        .map(|rank| {
            let share = match all_panic {
                true => 100 * rank.1 / sizes.max(1),
                false => available(rank) * 100 / total.max(1),
            };
            let percent = share.min(left);
            left -= percent;
            Load { percent, panics: panics(rank) }
        })
        .collect();
    // What rounding has lost.
    if let Some(first) = loads.iter_mut().find(|load| load.percent > 0) {
        first.percent += left;
    }
    loads
}

/// How many percent of what they have to do endpoints can do, if need be (Envoy's default of
/// `overprovisioning_factor`).
const OVERPROVISIONING: u64 = 140;

/// Numbers that localities take, for each that labels do.
const LOCALITIES: u32 = 5;

#[cfg(test)]
mod tests;
