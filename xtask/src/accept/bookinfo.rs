//! Bookinfo comes up, and injection follows the namespace label.

use std::fs;
use std::time::Duration;

use anyhow::Context;

use super::http::page;
use super::mesh::{Mesh, Stage, wait_for};
use super::{Options, ensure, fact};

/// What the product page has.
pub(super) const TITLE: &str = "<title>Simple Bookstore App</title>";

/// `up` serves the product page within 3 s, and the processes of the mesh use less than 150 MB in
/// total.
pub(super) fn up(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut sizes = Vec::new();
    let mut processes = 0;
    for _ in 0..5 {
        let mesh = stage.up(&[])?;
        wait_for("the product page", Duration::from_secs(30), || {
            Ok(page(mesh.gateway, "/productpage")
                .ok()
                .filter(|p| p.body.contains(TITLE))
                .map(|_| ()))
        })?;
        times.push(mesh.started.elapsed());
        mesh.wait_ready("default", 6)?;
        for _ in 0..50 {
            page(mesh.gateway, "/productpage")?;
        }
        processes = mesh.processes().len();
        sizes.push(proportional_kib(&mesh));
        mesh.stop()?;
    }
    times.sort();
    sizes.sort_unstable();
    fact(format!("start to the page, median of 5: {:?} of {times:?}", times[2]));
    fact(format!(
        "memory of {processes} processes, median of 5: {} MB",
        sizes[2] * 1024 / 1_000_000
    ));
    ensure(times[2] < Duration::from_secs(3), || "that is 3 s or more".to_owned())?;
    ensure(sizes[2] * 1024 < 150_000_000, || "that is 150 MB or more".to_owned())
}

/// Sum of the proportional set sizes of the mesh's processes, in units of 1024 bytes.
fn proportional_kib(mesh: &Mesh) -> u64 {
    let one = |pid: i32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    mesh.processes().into_iter().filter_map(one).sum()
}

/// The workshop's own manifests get no sidecars in a namespace without the label, and sidecars in one
/// with it.
pub(super) fn injection(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let workshops = options.workshops.as_ref();
    let workshops = workshops
        .context("set IRONMESH_WORKSHOPS to the folder of the workshops' manifests")?
        .canonicalize()?;
    let bookinfo = workshops.join("002-istio1.14/samples/bookinfo");
    let manifests = [
        bookinfo.join("platform/kube/bookinfo.yaml").display().to_string(),
        bookinfo.join("networking/bookinfo-gateway.yaml").display().to_string(),
    ];
    let [app, gateway] = &manifests;
    let mesh = stage.up(&["--empty"])?;
    stage.run(&["apply", "-f", app])?;
    stage.run(&["apply", "-f", gateway])?;
    served(&mesh, "1/1")?;
    let labelled = stage.run(&["label", "namespace", "default", "istio-injection=enabled"])?;
    ensure(labelled.trim() == "namespace/default labeled", || format!("label said {labelled}"))?;
    served(&mesh, "1/1")?;
    stage.run(&["delete", "-f", app])?;
    stage.run(&["apply", "-f", app])?;
    served(&mesh, "2/2")?;
    fact("1/1 before the label, 1/1 after it until made again, then 2/2; page served each time");
    mesh.stop()
}

fn served(mesh: &Mesh, ready: &str) -> anyhow::Result<()> {
    wait_for(&format!("six pods {ready} and the page"), Duration::from_secs(60), || {
        let table = mesh.stage.run(&["get", "pods", "--no-headers"])?;
        let rows: Vec<&str> = table.lines().collect();
        let all = rows.len() == 6
            && rows.iter().all(|row| {
                let mut cells = row.split_whitespace().skip(1);
                cells.next() == Some(ready) && cells.next() == Some("Running")
            });
        let page = page(mesh.gateway, "/productpage").is_ok_and(|p| p.body.contains(TITLE));
        Ok((all && page).then_some(()))
    })
}
