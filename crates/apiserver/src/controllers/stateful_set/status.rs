//! The status of a StatefulSet.

use std::collections::BTreeMap;
use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::{Pod, StatefulSet, UpdateType};
use serde_json::json;

use super::{State, is_healthy, resource};
use crate::controllers::revisions;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{Part, Registry};
use crate::store::Key;

/// Writes it from the pods that there are. Once all of them are of the present revision, and ready, that
/// is the one before, too.
pub(super) fn write(
    registry: &Registry,
    key: &Key,
    state: &State<'_>,
    pods: &BTreeMap<u32, Arc<Object>>,
) -> Result<(), Failure> {
    let count = |is: &dyn Fn(&Object) -> bool| pods.values().filter(|pod| is(pod)).count();
    let of = |revision: &str| {
        count(&|pod| revisions::of_pod(pod) == revision && !object::is_terminating(pod))
    };
    let ready = count(&is_healthy);
    let available = count(&|pod| Pod::of(pod).is_ready());
    let updated = of(&state.update);
    let is_complete = state.spec.update_strategy().of() == UpdateType::RollingUpdate
        && updated == pods.len()
        && ready == pods.len();
    let current = if is_complete { &state.update } else { &state.current };
    let status = json!({
        "observedGeneration": StatefulSet::of(state.set).metadata().generation().max(1),
        "replicas": pods.len(),
        "readyReplicas": ready,
        "availableReplicas": available,
        "currentReplicas": of(current),
        "updatedReplicas": updated,
        "currentRevision": current,
        "updateRevision": state.update,
        "collisionCount": 0,
    });
    registry.update(&resource(), key, Part::Status, |old| {
        let mut new = old.clone();
        new["status"] = status.clone();
        Ok(new)
    })?;
    Ok(())
}
