//! What is told of the groups of a workload when the control plane asks: who is ejected, and what is
//! open. What is open is counted by the workers, each in its own pool, and asked of them only now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::group::{EndpointLoad, Group, GroupReport, Member};
use ironmesh_wire::client::Question;
use tokio::sync::mpsc;

use crate::pool::Key;
use crate::process::Process;
use crate::worker::Workers;
use crate::workload::LocalWorkload;

/// Answers questions about a workload for as long as it is polled. The workers have `longest` to tell
/// what is open.
pub(crate) async fn answer(
    process: &Process,
    workload: &Arc<LocalWorkload>,
    workers: &Workers,
    mut questions: mpsc::Receiver<Question>,
    longest: Duration,
) {
    while let Some(Question { hosts, answer }) = questions.recv().await {
        let loads = workers.loads(workload, longest).await.map(Loads::of);
        // Whoever asked may have gone.
        let _ = answer.send(reports(process, workload, &hosts, loads.as_ref()));
    }
}

/// What is known of the groups of these hosts, or of all if there is none, in order of their keys.
fn reports(
    process: &Process,
    workload: &LocalWorkload,
    hosts: &[String],
    loads: Option<&Loads>,
) -> Vec<GroupReport> {
    let is_asked = |group: &Group| {
        let hostname = &*group.key.service.hostname;
        hosts.is_empty() || hosts.iter().any(|host| host == hostname)
    };
    let now = process.now();
    let mut groups = groups(workload);
    groups.retain(|group| is_asked(group));
    let report = |group: &Arc<Group>| {
        let load = |address, member: &Member| Some(loads?.to(group, address, member));
        group.report(now, load)
    };
    groups.iter().map(report).collect()
}

/// All groups of a workload, in order of their keys.
pub(crate) fn groups(workload: &LocalWorkload) -> Vec<Arc<Group>> {
    let mut groups: Vec<Arc<Group>> = workload.views.load().groups().collect();
    groups.sort_by(|a, b| a.key.cmp(&b.key));
    groups
}

/// What all workers have open.
pub(crate) struct Loads(HashMap<SocketAddr, Vec<(Arc<Key>, EndpointLoad)>>);

impl Loads {
    pub(crate) fn of(open: Vec<(Arc<Key>, EndpointLoad)>) -> Self {
        let mut loads: HashMap<_, Vec<_>> = HashMap::new();
        for (to, load) in open {
            loads.entry(*to.target().address).or_default().push((to, load));
        }
        Self(loads)
    }

    /// What is open to a member, in the name of a group: its own connections if it limits them, else
    /// those that all groups without limits share.
    pub(crate) fn to(
        &self,
        group: &Arc<Group>,
        address: SocketAddr,
        member: &Member,
    ) -> EndpointLoad {
        let limited = group.pool().map(|_| group);
        let mut sum = EndpointLoad::default();
        for (to, load) in self.0.get(&address).into_iter().flatten() {
            let to = to.target();
            let is_same_group = to.limited.map(Arc::as_ptr) == limited.map(Arc::as_ptr);
            if is_same_group && *to.tls == member.tls {
                sum.add(*load);
            }
        }
        sum
    }
}
