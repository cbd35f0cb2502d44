//! Where the workload is whose view it is, and which endpoints are near to it.

use super::View;
use crate::group::Nearness;
use crate::policy::{Preference, TrafficPolicy};
use crate::service::Service;

impl View {
    /// Takes over where the workload is whose view it is, and says whether that is somewhere else.
    pub(super) fn learn_caller(&mut self) -> bool {
        let Some((ip, uid)) = &self.own else { return false };
        let present = self.workload(*ip).flatten().filter(|present| present.id.uid == *uid);
        let (Some(present), before) = (present.cloned(), self.caller.as_ref()) else {
            return false;
        };
        let moved = before.is_none_or(|before| before.place() != present.place());
        if moved {
            self.caller = Some(present);
        }
        moved
    }

    /// How endpoints are preferred for being near to the workload.
    pub(super) fn nearness(&self, service: &Service, traffic: &TrafficPolicy) -> Option<Nearness> {
        let caller = self.caller.clone()?;
        let own = traffic.balance.as_ref().and_then(|balance| balance.locality.as_ref());
        let (outlier, mesh) = (traffic.outlier.as_ref(), &self.settings.locality);
        let preference = Preference::of(own, outlier, service.distribution, mesh)?;
        Some(Nearness { preference, caller })
    }
}
