//! `ironmesh proxy-config secret`: the certificates of a proxy, never a key.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Format;
use super::admin::Proxy;
use crate::cli::Context;
use crate::clock;
use crate::output::table::Columns;
use crate::say;

/// Show the certificates of the proxy of a pod: its own chain, and the roots by which it trusts others.
///
/// The private key was made in the proxy and never leaves its memory: nothing can show it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config secret deploy/productpage-v1
  ironmesh proxy-config secret deploy/productpage-v1 -o json")]
pub(crate) struct Secret {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    pod: String,
    /// json and yaml have the certificates themselves, too.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
}

/// What the proxy tells.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Certificates {
    certificates: Vec<Chain>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Chain {
    identity: String,
    #[serde(default)]
    chain: Vec<Certificate>,
    #[serde(default)]
    trust_roots: Vec<Certificate>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Certificate {
    #[serde(default)]
    subject: String,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    not_before: i64,
    #[serde(default)]
    not_after: i64,
    pem: String,
}

impl Secret {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let proxy = Proxy::find(&self.pod, context).await?;
        let told: Certificates = proxy.json("/certs").await?;
        if told.certificates.is_empty() {
            say::notice(&format!("the proxy of pod {} has no certificate yet", proxy.pod));
        }
        self.output.write(&table(&told.certificates, clock::unix_seconds()), &told)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn table(chains: &[Chain], now: i64) -> String {
    let mut columns = Columns::default();
    columns.push([
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
        "NAMES",
    ]);
    for Chain { chain, trust_roots, .. } in chains {
        let own = chain.iter().map(|it| ("default", "Cert Chain", it));
        let roots = trust_roots.iter().map(|it| ("ROOTCA", "CA", it));
        for (name, kind, certificate) in own.chain(roots) {
            let is_valid = (certificate.not_before..certificate.not_after).contains(&now);
            let names = match certificate.names.is_empty() {
                true => certificate.subject.clone(),
                false => certificate.names.join(","),
            };
            columns.push([
                name.to_owned(),
                kind.to_owned(),
                "ACTIVE".to_owned(),
                is_valid.to_string(),
                certificate.serial.clone(),
                clock::of_unix_seconds(certificate.not_after),
                clock::of_unix_seconds(certificate.not_before),
                names,
            ]);
        }
    }
    columns.take_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_of_this_moment() {
        let certificate = |not_before, not_after| Certificate {
            subject: "O=ironmesh".to_owned(),
            issuer: String::new(),
            names: Vec::new(),
            serial: "0a".to_owned(),
            not_before,
            not_after,
            pem: String::new(),
        };
        let chain = Chain {
            identity: String::new(),
            chain: vec![certificate(100, 200)],
            trust_roots: vec![certificate(300, 400)],
        };
        let text = table(&[chain], 150);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("true") && lines[1].contains("1970-01-01T00:03:20Z"), "{text}");
        assert!(lines[2].starts_with("ROOTCA") && lines[2].contains("false"), "{text}");
    }
}
