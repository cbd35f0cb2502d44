//! A control plane over objects from standard input, for comparing real proxies with another mesh.
//!
//! `oracle-plane LISTEN` serves the push protocol at LISTEN, prints its trust anchors as a JSON text on
//! a line, and then answers each line of standard input with one line:
//!
//! - `{"put": [OBJECT, ...]}`: these objects take the place of all those of earlier lines but the pods
//!   with a token. Answers `{"findings": [...]}`, those about the objects.
//! - `{"token": POD}`: the pod comes to stay, and has a proxy on this machine. Answers `{"token": "..."}`.
//! - `{"explain": REQUEST}`: as `ironmesh explain` asks. Answers `{"explained": {...}}`.
//!
//! What cannot be answered is `{"error": "..."}`.

use std::io::{BufRead, Write, stdin, stdout};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use ironmesh_control::api::ExplainRequest;
use ironmesh_control::plane::{Options, Plane};
use ironmesh_control::source::{Memory, ObjectKey};
use ironmesh_dialects::Object;
use ironmesh_identity::token::{Claims, TokenKey};
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Signs tokens that only proxies on this machine's loopback ever show.
const TOKEN_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Changes that the control plane may be behind: those of some lines.
const CHANGES_MAX: usize = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listen: SocketAddr =
        std::env::args().nth(1).context("usage: oracle-plane LISTEN")?.parse()?;
    let state = tempfile::tempdir()?;
    let source = Arc::new(Memory::new(CHANGES_MAX));
    let options = Options {
        state: state.path(),
        token_key: TOKEN_KEY,
        settings: Settings::default(),
        limits: Limits::default(),
        user_ids: true,
        keeps_claims: true,
    };
    let plane = Plane::open(source.clone(), options).map_err(anyhow::Error::msg)?;
    let listener = TcpListener::bind(listen).await.with_context(|| listen.to_string())?;
    say(&json!(std::fs::read_to_string(state.path().join("anchors.pem"))?))?;
    let mut asked = Asked { plane: plane.clone(), source, objects: Vec::new(), from: listen };
    tokio::select! {
        () = plane.run(listener) => Ok(()),
        ended = asked.answer(lines()) => ended,
    }
}

/// One line of standard input.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Put(Vec<Value>),
    Token(Value),
    Explain(ExplainRequest),
}

/// Who answers the lines.
struct Asked {
    plane: Arc<Plane>,
    source: Arc<Memory>,
    /// Objects of the last line with some.
    objects: Vec<ObjectKey>,
    /// Where proxies connect from.
    from: SocketAddr,
}

impl Asked {
    async fn answer(&mut self, mut lines: mpsc::Receiver<String>) -> anyhow::Result<()> {
        while let Some(line) = lines.recv().await {
            let answer = match serde_json::from_str(&line) {
                Ok(Line::Put(objects)) => self.put(objects).await,
                Ok(Line::Token(pod)) => self.token(pod),
                Ok(Line::Explain(request)) => self.explain(&request).await,
                Err(error) => Err(error.into()),
            };
            say(&answer.unwrap_or_else(|error| json!({"error": format!("{error:#}")})))?;
        }
        Ok(())
    }

    async fn put(&mut self, objects: Vec<Value>) -> anyhow::Result<Value> {
        let objects: Result<Vec<_>, _> = objects.into_iter().map(Object::new).collect();
        let objects = objects?;
        let mut before = std::mem::take(&mut self.objects);
        for object in objects {
            let key = ObjectKey::of(&object);
            before.retain(|gone| *gone != key);
            self.objects.push(key);
            self.source.put(object);
        }
        before.iter().for_each(|gone| self.source.remove(gone));
        let findings = self.plane.findings(None, None, None).await?;
        Ok(json!({ "findings": findings }))
    }

    fn token(&self, pod: Value) -> anyhow::Result<Value> {
        let text = |pointer: &str| {
            let text = pod.pointer(pointer).and_then(Value::as_str);
            text.with_context(|| format!("the pod has no {pointer}"))
        };
        let is_gateway = pod.pointer("/metadata/labels/istio").is_some();
        let claims = Claims {
            namespace: text("/metadata/namespace")?.into(),
            service_account: text("/spec/serviceAccountName")?.into(),
            pod: text("/metadata/name")?.into(),
            uid: text("/metadata/uid")?.into(),
            ip: self.from.ip(),
            kind: if is_gateway { ProxyKind::Gateway } else { ProxyKind::Sidecar },
        };
        self.source.put(Object::new(pod)?);
        let key = TokenKey::from_hex(TOKEN_KEY).context("the key is one")?;
        Ok(json!({"token": key.sign(&claims)}))
    }

    async fn explain(&self, request: &ExplainRequest) -> anyhow::Result<Value> {
        Ok(json!({"explained": self.plane.explain(request).await?}))
    }
}

/// Lines of standard input, read by a thread: it cannot be waited for otherwise.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn say(answer: &Value) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}
