//! `ironmesh explain`: what the mesh does with a request, and why, before it is sent.

mod fields;
mod tree;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use ironmesh_control::api::explain::{ExplainRequest, Explanation};
use ironmesh_model::Draw;

use crate::api::Api;
use crate::cli::Context;
use crate::verb::{pods_of, text};
use fields::Asked;

/// Explain what the mesh does with a request: each rule tried and why it lost, what won, weights,
/// endpoints, mTLS and timeouts, over all hops to the destination pod.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh explain GET http://127.0.0.1:8080/productpage
  ironmesh explain --from deploy/productpage-v1 GET http://reviews:9080/reviews/0 -H 'end-user: jason'
  ironmesh explain --draw 00c0ffee00c0ffee GET http://shop.example.com/cart    as one line of an access log
  ironmesh explain --from deploy/app tcp://redis:6379
  ironmesh explain -o json GET http://127.0.0.1:8080/productpage
  ironmesh explain virtualservice.spec.http    the fields of a kind, as kubectl does

Without --draw, weighted choices are shown with all their alternatives, and one of them is followed.")]
pub(crate) struct Explain {
    /// Where the request begins: a pod (POD, POD.NAMESPACE, KIND/NAME), or gateway.
    #[arg(long, default_value = "gateway")]
    from: String,
    /// The draw of a request, as the JSON access log shows it: makes the same choices.
    #[arg(long, value_name = "HEX")]
    draw: Option<Draw>,
    /// A header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// json for everything, with the access log's field names.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
    /// Method of the request; GET if it is left out. A kind alone, with or without a field (KIND.FIELD):
    /// what its fields are.
    method: String,
    /// URL of the request, as a client would write it; tcp://HOST:PORT and tls://SNI:PORT are connections.
    url: Option<String>,
}

impl Explain {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if self.url.is_none()
            && let Some(asked) = Asked::read(&self.method)
        {
            stdout().lock().write_all(asked.page()?.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let api = context.api();
        let headers: anyhow::Result<Vec<_>> =
            self.headers.iter().map(|line| header(line)).collect();
        let (method, url) = match self.url {
            Some(url) => (self.method, url),
            None => ("GET".to_owned(), self.method),
        };
        let request = ExplainRequest {
            from: origin(&api, context, &self.from).await?,
            namespace: context.namespace().to_owned(),
            method,
            url,
            headers: headers?,
            draw: self.draw,
        };
        let answer = api.post("/ironmesh/explain", &serde_json::to_value(&request)?).await?;
        let mut out = stdout().lock();
        if self.output.is_some() {
            writeln!(out, "{answer:#}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let explanation: Explanation =
            serde_json::from_value(answer).context("reading the explanation")?;
        out.write_all(tree::render(&explanation).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `KIND/NAME` becomes a pod of it; other words are the server's to understand.
async fn origin(api: &Api, context: &Context, from: &str) -> anyhow::Result<String> {
    if !from.contains('/') {
        return Ok(from.to_owned());
    }
    let pods = pods_of(api, context.namespace(), from).await?;
    Ok(text(&pods[0], "/metadata/name").to_owned())
}

fn header(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) =
        line.split_once(':').with_context(|| format!("header {line:?} is not 'NAME: VALUE'"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
