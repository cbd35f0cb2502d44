//! `ironmesh create secret`.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Data, How, read};

/// A Secret of the command line.
#[derive(Debug, Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Values from the command line, files or folders.
    #[command(
        after_help = "Example:\n  ironmesh create secret generic login --from-literal=user=me"
    )]
    Generic {
        /// Its name.
        name: String,
        #[command(flatten)]
        data: Data,
        /// Its type; default: Opaque.
        #[arg(long = "type", value_name = "TYPE", default_value = "Opaque")]
        of: String,
        #[command(flatten)]
        how: How,
    },
    /// A certificate and its key.
    #[command(
        after_help = "Example:\n  ironmesh create secret tls shop --cert=shop.crt --key=shop.key"
    )]
    Tls {
        /// Its name.
        name: String,
        /// File with the certificate (PEM).
        #[arg(long, value_name = "FILE")]
        cert: String,
        /// File with the private key (PEM).
        #[arg(long, value_name = "FILE")]
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// The login of a registry of images.
    #[command(after_help = "Example:
  ironmesh create secret docker-registry reg --docker-server=registry.example.com \\
      --docker-username=me --docker-password=secret")]
    DockerRegistry {
        /// Its name.
        name: String,
        #[command(flatten)]
        login: Login,
        #[command(flatten)]
        how: How,
    },
}

/// The login of a registry.
#[derive(Debug, Args)]
struct Login {
    /// Where the registry is.
    #[arg(long, value_name = "SERVER", default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    /// Name of the user.
    #[arg(long, value_name = "USER", required_unless_present = "from_file")]
    docker_username: Option<String>,
    /// Password of the user.
    #[arg(long, value_name = "PASSWORD", required_unless_present = "from_file")]
    docker_password: Option<String>,
    /// Mail address of the user.
    #[arg(long, value_name = "ADDRESS")]
    docker_email: Option<String>,
    /// A file that has it all, such as ~/.docker/config.json.
    #[arg(long, value_name = "FILE")]
    from_file: Option<String>,
}

impl Secret {
    /// The object.
    pub(super) fn object(self) -> anyhow::Result<(Value, How)> {
        let (name, of, values, how) = match self.what {
            What::Generic { name, data, of, how } => {
                let values = data.read()?.into_iter();
                (name, of, values.map(|(key, value)| (key, base64(&value).into())).collect(), how)
            }
            What::Tls { name, cert, key, how } => {
                let mut values = Map::new();
                for (field, path, mark) in
                    [("tls.crt", &cert, "CERTIFICATE-----"), ("tls.key", &key, "PRIVATE KEY-----")]
                {
                    let bytes = read(path)?;
                    let is_pem = String::from_utf8_lossy(&bytes).contains(mark);
                    ensure!(is_pem, "{path}: no PEM of a {field} (\"{mark}\") is in it");
                    values.insert(field.to_owned(), base64(&bytes).into());
                }
                (name, "kubernetes.io/tls".to_owned(), values, how)
            }
            What::DockerRegistry { name, login, how } => {
                let mut values = Map::new();
                values.insert(".dockerconfigjson".to_owned(), base64(&login.config()?).into());
                (name, "kubernetes.io/dockerconfigjson".to_owned(), values, how)
            }
        };
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name },
            "type": of,
        });
        if !values.is_empty() {
            object["data"] = Value::Object(values);
        }
        Ok((object, how))
    }
}

impl Login {
    /// What `docker login` would have written.
    fn config(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(path) = &self.from_file {
            let bytes = read(path)?;
            let config: Value =
                serde_json::from_slice(&bytes).with_context(|| format!("{path} is no JSON"))?;
            ensure!(config["auths"].is_object(), "{path} has no \"auths\"");
            return Ok(bytes);
        }
        let user = self.docker_username.as_deref().unwrap_or_default();
        let password = self.docker_password.as_deref().unwrap_or_default();
        let mut entry = json!({
            "username": user,
            "password": password,
            "auth": base64(format!("{user}:{password}").as_bytes()),
        });
        if let Some(address) = &self.docker_email {
            entry["email"] = json!(address);
        }
        let mut config = json!({ "auths": {} });
        config["auths"][&self.docker_server] = entry;
        Ok(config.to_string().into_bytes())
    }
}

/// Bytes as a Secret holds them.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
