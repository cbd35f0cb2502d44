//! What the mesh finds about an object that somebody writes, said with the answer as HTTP has warnings: a
//! `kubectl apply` shows them, as `ironmesh apply` shows the same findings.

use std::sync::Arc;

use super::answer::Answer;
use super::request::ApiRequest;
use super::strict;
use crate::access::Door;
use crate::context::Context;
use crate::object::Object;

/// An object as it was written just now.
#[derive(Clone, Debug)]
struct Written {
    object: Arc<Object>,
    is_tried: bool,
}

/// Notes with an answer what object was written; `is_tried` if only a dry run did.
pub(super) fn note(mut answer: Answer, object: &Arc<Object>, is_tried: bool) -> Answer {
    answer.extensions_mut().insert(Written { object: object.clone(), is_tried });
    answer
}

/// Adds what is found about the object that was written, if there is one. The commands of the mesh itself,
/// which come by their own door, ask for it once, when all is written.
pub(super) async fn add(context: &Context, request: &ApiRequest, mut answer: Answer) -> Answer {
    let Some(written) = answer.extensions_mut().remove::<Written>() else { return answer };
    if request.door != Door::Network {
        return answer;
    }
    let mut found = context.extension.findings(&written.object, written.is_tried).await;
    found.iter_mut().for_each(|text| text.truncate(text.floor_char_boundary(WARNING_BYTES_MAX)));
    if found.len() > WARNINGS_MAX {
        let more = found.len() - WARNINGS_MAX;
        found.truncate(WARNINGS_MAX);
        found.push(format!("and {more} more findings: `ironmesh findings` lists all"));
    }
    strict::warn(answer, &found)
}

/// Findings of one object that are said with an answer.
const WARNINGS_MAX: usize = 8;
/// Bytes of one of them; clients take heads of a bounded size.
const WARNING_BYTES_MAX: usize = 512;
