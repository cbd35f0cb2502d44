//! `ironmesh create service`: a Service whose pods have its name as their label `app`.

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::How;

/// A Service of the command line.
#[derive(Debug, Args)]
pub(super) struct Service {
    #[command(subcommand)]
    of: Type,
}

#[derive(Debug, Subcommand)]
enum Type {
    /// One that is reached from inside.
    #[command(after_help = "Example:\n  ironmesh create service clusterip web --tcp=80:8080")]
    Clusterip {
        #[command(flatten)]
        common: Common,
        /// Its address; None: its name has those of its pods.
        #[arg(long, value_name = "IP")]
        clusterip: Option<String>,
    },
    /// One that has ports of the node, too.
    #[command(
        after_help = "Example:\n  ironmesh create service nodeport web --tcp=80 --node-port=30080"
    )]
    Nodeport {
        #[command(flatten)]
        common: Common,
        /// The port of the node for the first port.
        #[arg(long, value_name = "PORT")]
        node_port: Option<u16>,
    },
    /// One that has an address of this machine.
    #[command(after_help = "Example:\n  ironmesh create service loadbalancer web --tcp=80:8080")]
    Loadbalancer {
        #[command(flatten)]
        common: Common,
    },
    /// One that stands for another name.
    #[command(
        after_help = "Example:\n  ironmesh create service externalname db --external-name=db.example.com"
    )]
    Externalname {
        #[command(flatten)]
        common: Common,
        /// The name.
        #[arg(long, value_name = "HOST")]
        external_name: String,
    },
}

/// What all of them take.
#[derive(Debug, Args)]
struct Common {
    /// Its name.
    name: String,
    /// A port, and that of the pods if it is another; may be given several times, or with commas.
    #[arg(long, value_name = "PORT[:TARGET]", value_delimiter = ',')]
    tcp: Vec<String>,
    #[command(flatten)]
    how: How,
}

impl Service {
    /// The object.
    pub(super) fn object(self) -> anyhow::Result<(Value, How)> {
        let (common, word, more) = match self.of {
            Type::Clusterip { common, clusterip } => {
                (common, "ClusterIP", clusterip.map(|ip| ("clusterIP", ip)))
            }
            Type::Nodeport { common, node_port } => {
                let (mut object, how) = common.object("NodePort", None)?;
                if let Some(node_port) = node_port {
                    object["spec"]["ports"][0]["nodePort"] = node_port.into();
                }
                return Ok((object, how));
            }
            Type::Loadbalancer { common } => (common, "LoadBalancer", None),
            Type::Externalname { common, external_name } => {
                (common, "ExternalName", Some(("externalName", external_name)))
            }
        };
        common.object(word, more)
    }
}

impl Common {
    fn object(self, word: &str, more: Option<(&str, String)>) -> anyhow::Result<(Value, How)> {
        let is_headless = more.as_ref().is_some_and(|(_, value)| value == "None");
        ensure!(
            !self.tcp.is_empty() || is_headless || word == "ExternalName",
            "say at least one port: --tcp=PORT[:TARGET]"
        );
        let ports: Vec<Value> = self.tcp.iter().map(|text| port(text)).collect::<Result<_, _>>()?;
        let labels = json!({ "app": self.name });
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "labels": labels },
            "spec": { "type": word, "selector": labels, "ports": ports },
        });
        if let Some((field, value)) = more {
            object["spec"][field] = value.into();
        }
        Ok((object, self.how))
    }
}

/// A port as kubectl makes it: named by what was written.
fn port(text: &str) -> anyhow::Result<Value> {
    let (number, target) = text.split_once(':').unwrap_or((text, text));
    let wrong = || format!("--tcp {text:?} is not PORT or PORT:TARGET");
    let number: u16 = number.parse().with_context(wrong)?;
    ensure!(!target.is_empty(), wrong());
    let target = target.parse::<u16>().map_or_else(|_| json!(target), |number| json!(number));
    let name = text.replace(':', "-");
    Ok(json!({ "name": name, "port": number, "protocol": "TCP", "targetPort": target }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_command_line() {
        let plain = json!({ "name": "80", "port": 80, "protocol": "TCP", "targetPort": 80 });
        assert_eq!(port("80").unwrap(), plain);
        assert_eq!(port("80:8080").unwrap()["targetPort"], 8080);
        assert_eq!(port("80:http").unwrap()["targetPort"], "http");
        for bad in ["", "x", "80:", ":80", "70000"] {
            assert!(port(bad).unwrap_err().to_string().contains("PORT:TARGET"), "{bad}");
        }
    }
}
