//! How many retries of a destination may be under way.

use serde::{Deserialize, Serialize};

use crate::draw::Share;

/// How many retries may be under way, in relation to what is (`retryBudget`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Of all requests that are under way. Envoy's default: 20 %.
    pub share: Share,
    /// Retries that are allowed in any case. Envoy's default: 3.
    pub retries_min: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { share: Share::of_millionths(200_000), retries_min: 3 }
    }
}

impl RetryBudget {
    /// The retries that are allowed while so many requests are under way.
    pub fn retries_max(self, requests: u32) -> u32 {
        let of_share = u64::from(requests) * u64::from(self.share.millionths()) / 1_000_000;
        u32::try_from(of_share).unwrap_or(u32::MAX).max(self.retries_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_what_is_under_way_and_some_in_any_case() {
        let budget = RetryBudget::default();
        for (requests, retries) in
            [(0, 3), (15, 3), (19, 3), (20, 4), (100, 20), (u32::MAX, 858_993_459)]
        {
            assert_eq!(budget.retries_max(requests), retries, "{requests}");
        }
        let none = RetryBudget { share: Share::of_percent(0.0), retries_min: 0 };
        assert_eq!(none.retries_max(1_000), 0);
    }
}
