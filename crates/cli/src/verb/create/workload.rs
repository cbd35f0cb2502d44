//! `ironmesh create deployment` and `job`: an image that runs.

use clap::Args;
use serde_json::{Value, json};

use super::How;

/// A Deployment of the command line.
#[derive(Debug, Args)]
pub(super) struct Deployment {
    /// Its name.
    name: String,
    /// The image to run.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// How many pods.
    #[arg(short, long, default_value_t = 1)]
    replicas: u32,
    /// The port on which the container listens.
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    how: How,
    /// The command to run instead of the image's own.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A Job of the command line.
#[derive(Debug, Args)]
pub(super) struct Job {
    /// Its name.
    name: String,
    /// The image to run.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    how: How,
    /// The command to run instead of the image's own.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Deployment {
    /// The object.
    pub(super) fn object(self) -> (Value, How) {
        let mut container = container(container_name(&self.image), &self.image, &self.command);
        if let Some(port) = self.port {
            container["ports"] = json!([{ "containerPort": port }]);
        }
        let labels = json!({ "app": self.name });
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.name, "labels": labels },
            "spec": {
                "replicas": self.replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
            },
        });
        (object, self.how)
    }
}

impl Job {
    /// The object.
    pub(super) fn object(self) -> (Value, How) {
        let container = container(&self.name, &self.image, &self.command);
        let object = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": self.name },
            "spec": { "template": { "spec": {
                "containers": [container],
                "restartPolicy": "Never",
            } } },
        });
        (object, self.how)
    }
}

fn container(name: &str, image: &str, command: &[String]) -> Value {
    let mut container = json!({ "name": name, "image": image });
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    container
}

/// As kubectl names the container of an image: by the image's last part, without tag and digest.
fn container_name(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_called_as_their_images() {
        for (image, name) in
            [("nginx", "nginx"), ("a.example:5000/b/web:1.0", "web"), ("web@sha256:00", "web")]
        {
            assert_eq!(container_name(image), name);
        }
    }
}
