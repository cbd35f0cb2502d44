//! `/metrics`: what a Prometheus that looks for the API (`kubernetes-apiservers`) is told of it.

use std::fmt::Write as _;

use super::answer::{self, Answer};
use super::discovery;
use crate::context::Context;

use http::StatusCode;

/// The answer, in Prometheus' text format.
pub(super) fn answer(context: &Context) -> Answer {
    let version = discovery::version();
    let mut text = String::from(
        "# HELP kubernetes_build_info A metric with a constant '1' value labeled by version.\n\
         # TYPE kubernetes_build_info gauge\n",
    );
    // Writing into memory cannot fail.
    let _ = writeln!(
        text,
        "kubernetes_build_info{{git_version={},major={},minor={}}} 1",
        version["gitVersion"], version["major"], version["minor"]
    );
    text.push_str(
        "# HELP apiserver_storage_objects Number of stored objects by resource.\n\
         # TYPE apiserver_storage_objects gauge\n",
    );
    let store = context.registry.store();
    for collection in store.collections() {
        let count = store.count(&collection);
        let _ = writeln!(text, "apiserver_storage_objects{{resource=\"{collection}\"}} {count}");
    }
    answer::whole(StatusCode::OK, "text/plain; version=0.0.4", text)
}
