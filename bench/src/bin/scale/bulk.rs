//! Many objects at once, and a control plane that starts again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::api::Api;
use crate::cases::{LISTENERS, Mesh, until};
use crate::objects::{
    NAMESPACES, PODS, ROUTES, SERVICES, SLICES, create_all, crowd, route, running, service,
    slice_of,
};
use crate::report::Report;

impl Mesh {
    /// The pods of a large service: many come, tell of themselves, and become ready.
    pub(crate) async fn crowd(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let count = self.sizes.endpoints;
        self.settle().await;
        let before = self.control.cpu_time()?;
        let mut objects = vec![(SERVICES, crowd())];
        let pod = |n: usize| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("crowd-{n}"), "labels": {"app": "crowd"}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            })
        };
        objects.extend((0..count).map(|n| (PODS, pod(n))));
        create_all(&self.control.api(), objects).await?;
        for n in 0..count {
            self.api.merge(&status_of(n), &running(n, true, 0)).await?;
        }
        self.settle().await;
        let cpu = self.control.cpu_time()? - before;
        let limit = Duration::from_millis(2) * count as u32;
        report.time(&format!("{count} pods of a service come and are ready"), cpu, limit);

        let statuses = |n: usize| (status_of(n), Some(running(n, true, 1)), Value::Null);
        let cost = self.measure((0..self.sizes.edits).map(statuses).collect(), 0).await?;
        cost.tell(report, "status of a pod that matters to nobody", Duration::from_millis(2), 0);
        let unready = |n: usize| (status_of(n), Some(running(n, false, 1)), Value::Null);
        let cost = self.measure((0..self.sizes.edits).map(unready).collect(), LISTENERS).await?;
        let what = "readiness of one pod of a large service";
        cost.tell(report, what, Duration::from_millis(5), LISTENERS);
        Ok(())
    }

    /// Creates services, routes and slices that nobody asks for.
    pub(crate) async fn create_many(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let count = self.sizes.services / 3;
        for (what, path, object) in [
            ("services", SERVICES, many_service as fn(usize) -> Value),
            ("routes", ROUTES, |n| route(&format!("m{n}"), &format!("m{n}"), "mesh", n, 90)),
        ] {
            self.settle().await;
            let before = self.control.cpu_time()?;
            for n in 0..count {
                self.api.create(path, &object(n)).await?;
            }
            self.settle().await;
            let cpu = self.control.cpu_time()? - before;
            report.time(&format!("creating {count} {what}"), cpu, Duration::from_secs(1));
        }
        Ok(())
    }

    /// Deletes services that ten proxies hold each, with a slice of endpoints each, one after the
    /// other.
    pub(crate) async fn delete_services(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let count = self.sizes.services / 3;
        let name = |n: usize| format!("s{}", self.sizes.services - 1 - n);
        let slices = (0..count).map(|n| (SLICES, slice_of(&name(n), n))).collect();
        create_all(&self.control.api(), slices).await?;
        for (what, path) in [("services", SERVICES), ("slices", SLICES)] {
            self.settle().await;
            let before = self.control.cpu_time()?;
            for n in 0..count {
                let name = name(n);
                self.api.delete(&format!("{path}/{name}")).await?;
            }
            self.settle().await;
            let cpu = self.control.cpu_time()? - before;
            report.time(&format!("deleting {count} {what}"), cpu, Duration::from_secs(1));
        }
        Ok(())
    }

    /// Deletes a namespace with many services.
    pub(crate) async fn delete_namespace(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let count = self.sizes.services / 3;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}});
        self.api.create(NAMESPACES, &namespace).await?;
        let path = "/api/v1/namespaces/many/services";
        let services = (0..count).map(|n| (path, many_service(n))).collect();
        create_all(&self.control.api(), services).await?;
        self.settle().await;
        let before = self.control.cpu_time()?;
        let namespace = format!("{NAMESPACES}/many");
        self.api.delete(&namespace).await?;
        while self.api.exists(&namespace).await? {
            sleep(Duration::from_millis(50)).await;
        }
        self.settle().await;
        let cpu = self.control.cpu_time()? - before;
        let what = format!("deleting a namespace of {count} services");
        report.time(&what, cpu, Duration::from_secs(1));
        Ok(())
    }

    /// Ends the control plane without warning and starts it again; all proxies come back.
    pub(crate) async fn restart(&mut self, report: &mut Report) -> anyhow::Result<()> {
        self.settle().await;
        let keys = self.keys();
        let begun = Instant::now();
        self.control.restart().await?;
        let connected = || self.proxies.iter().all(|proxy| proxy.client.connection().connected);
        // First they learn that it is gone.
        until(|| !connected()).await?;
        until(connected).await?;
        let took = begun.elapsed();
        self.api = Api::connect(&self.control.api()).await?;
        self.settle().await;
        let count = self.proxies.len();
        let cpu = self.control.cpu_time()?;
        // A handshake with its key exchange is most of it.
        let limit = Duration::from_millis(2) * count as u32;
        report.time(&format!("{count} proxies come back to a new process: CPU"), cpu, limit);
        report.time("  until the last is back", took, Duration::from_secs(15));
        report.number("  keys sent", (self.keys() - keys) as f64, 0.0);
        Ok(())
    }
}

fn status_of(pod: usize) -> String {
    format!("{PODS}/crowd-{pod}/status")
}

fn many_service(n: usize) -> Value {
    service(&format!("m{n}"))
}
