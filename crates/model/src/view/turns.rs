//! The order in which rules are tried.

use std::sync::Arc;

use super::{LinkedRoute, Turn};
use crate::resource::{Applies, Join};

/// The order in which the rules of several routes are tried.
///
/// At a gateway Istio moves catch-all alternatives behind those of all routes, and drops what stands
/// behind one in its own route. A catch-all that does not hold here, for its gateway or port, is
/// none.
pub(super) fn join(routes: &[Arc<LinkedRoute>], applies: &Applies, dialled: u16) -> Vec<Turn> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (route, linked) in (0u32..).zip(routes) {
        for (rule, compiled) in (0u32..).zip(&linked.route.rules) {
            let alternatives = compiled.matches.len() as u32;
            let turn = |alternatives| Turn { route, rule, alternatives };
            let catch_all = match applies.join {
                Join::InOrder | Join::OrDefault => None,
                Join::CatchAllLast if alternatives == 0 => Some(0),
                Join::CatchAllLast => (0u32..)
                    .zip(&compiled.matches)
                    .find(|(_, m)| m.catch_all && m.holds_at(&applies.attached_to, dialled))
                    .map(|(index, _)| index),
            };
            let Some(at) = catch_all else {
                first.push(turn(0..alternatives));
                continue;
            };
            if at > 0 {
                first.push(turn(0..at));
            }
            last.push(turn(at..alternatives.min(at + 1)));
            break;
        }
    }
    first.extend(last);
    first
}
