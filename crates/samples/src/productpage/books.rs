//! The books of the shop. There is one.

use serde_json::{Value, json};

/// Id of the book that the page shows.
pub(super) const FIRST: u64 = 0;
/// Its title.
pub(super) const TITLE: &str = "The Comedy of Errors";
/// Its description on the page, in HTML.
pub(super) const DESCRIPTION: &str = "One of <b>William Shakespeare</b>'s first comedies: two \
    pairs of twins, parted in a storm, come to the same town on the same day without knowing it.";

/// All books, as `/api/v1/products` lists them.
pub(super) fn all() -> Value {
    json!([{ "id": FIRST, "title": TITLE, "descriptionHtml": DESCRIPTION }])
}
