//! The verbs, one module each.

pub(crate) mod analyze;
pub(crate) mod apply;
pub(crate) mod capture;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod dashboard;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod down;
pub(crate) mod dry_run;
pub(crate) mod edit;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod expose;
pub(crate) mod external;
pub(crate) mod finding;
pub(crate) mod findings;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod inject;
pub(crate) mod install;
pub(crate) mod kubeconfig;
pub(crate) mod label;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod patch;
pub(crate) mod port_forward;
pub(crate) mod precheck;
pub(crate) mod proxy_config;
pub(crate) mod proxy_status;
pub(crate) mod replace;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod set;
pub(crate) mod settings;
pub(crate) mod shims;
pub(crate) mod status;
pub(crate) mod uninstall;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod wait;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::api::{Api, Query};
use crate::{kinds, target};

/// Exit codes of verbs that work on several objects: 1 if any failed.
pub(crate) fn exit(failed: bool) -> std::process::ExitCode {
    if failed { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}

/// The pods that a word means: `POD`, `pod/POD`, or `KIND/NAME` of something that selects pods
/// (`deploy/NAME`, `svc/NAME`, `job/NAME`).
pub(crate) async fn pods_of(api: &Api, namespace: &str, word: &str) -> anyhow::Result<Vec<Value>> {
    let Some((kind, name)) = word.split_once('/') else {
        let pods = target::resource("pods")?;
        return Ok(vec![api.get(&pods.path(Some(namespace), Some(word))).await?]);
    };
    let resource = kinds::resource(api, kind).await?;
    let object = api.get(&resource.path(Some(namespace), Some(name))).await?;
    let selector = match &*resource.kind {
        "Pod" => return Ok(vec![object]),
        "Service" | "ReplicationController" => {
            label_selector(&object["spec"]["selector"], &Value::Null)
        }
        _ => {
            let selector = &object["spec"]["selector"];
            label_selector(&selector["matchLabels"], &selector["matchExpressions"])
        }
    };
    if selector.is_empty() {
        bail!("{word} selects no pods");
    }
    let pods = pods_by_label(api, namespace, &selector).await?;
    if pods.is_empty() {
        bail!("{word} has no pods now");
    }
    Ok(pods)
}

/// A selector of labels and expressions as the API takes it in a query.
fn label_selector(labels: &Value, expressions: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let pairs = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = expressions.as_array().into_iter().flatten().map(|expression| {
        let key = text(expression, "/key");
        let values = expression["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let values = values.join(",");
        match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    pairs.chain(expressions).collect::<Vec<_>>().join(",")
}

/// The pods with certain labels, those that are not ending first.
pub(crate) async fn pods_by_label(
    api: &Api,
    namespace: &str,
    selector: &str,
) -> anyhow::Result<Vec<Value>> {
    let pods = target::resource("pods")?;
    let path = Query::new(pods.path(Some(namespace), None)).with("labelSelector", selector);
    let mut list = api.get(&path.build()).await?;
    let items = list["items"].as_array_mut().context("the list of pods has no items")?;
    let mut pods = std::mem::take(items);
    pods.sort_by_key(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
    Ok(pods)
}

/// The text at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_with_expressions() {
        let labels = json!({ "app": "a" });
        let expressions = json!([
            { "key": "v", "operator": "In", "values": ["1", "2"] },
            { "key": "w", "operator": "NotIn", "values": ["3"] },
            { "key": "x", "operator": "Exists" },
            { "key": "y", "operator": "DoesNotExist" },
        ]);
        assert_eq!(label_selector(&labels, &expressions), "app=a,v in (1,2),w notin (3),x,!y");
        assert_eq!(label_selector(&Value::Null, &Value::Null), "");
    }
}
