//! What the parts of the API server share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::extension::Extension;
use crate::node::Node;
use crate::registry::Registry;
use crate::server::parts::Parts;

/// The parts that requests are answered from.
#[derive(Debug)]
pub(crate) struct Context {
    /// Objects.
    pub(crate) registry: Arc<Registry>,
    /// Answers what is not Kubernetes'.
    pub(crate) extension: Arc<dyn Extension>,
    /// Runs commands and reaches pods.
    pub(crate) node: Arc<dyn Node>,
    /// How callers are known.
    pub(crate) access: Access,
    /// Where the administrator finds the API over TLS.
    pub(crate) address: Option<SocketAddr>,
    /// Parts of answers that wait for their clients.
    pub(crate) parts: Parts,
    /// Bytes that the bodies of requests may still take.
    pub(crate) bodies: Arc<Semaphore>,
    /// Where the logs of containers are.
    pub(crate) logs: PathBuf,
}

impl Context {
    /// What the administrator needs to come over TLS.
    pub(crate) fn way_in(&self) -> Value {
        json!({
            "server": self.address.map(|address| format!("https://{address}")),
            "anchors": self.access.tls.anchors_pem(),
            "token": self.access.key.administrator(),
        })
    }
}
