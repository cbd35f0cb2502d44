//! The pages in HTML.

use std::fmt::Write;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Fetched, books};
use crate::{answer, form};

/// The front page.
pub(super) const INDEX: &str = include_str!("../../assets/index.html");

/// The page of the book.
pub(super) fn product(user: Option<&str>, details: &Fetched, reviews: &Fetched) -> String {
    // One pass over the template, so that nothing in a value is taken for a placeholder.
    let mut page = String::with_capacity(8 << 10);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (place, after) = after.split_once("}}").unwrap_or((after, ""));
        match place {
            "session" => session(&mut page, user),
            "title" => page.push_str(books::TITLE),
            "description" => page.push_str(books::DESCRIPTION),
            "details" => section(&mut page, details, "details", book),
            "reviews" => section(&mut page, reviews, "reviews", all_reviews),
            _ => {}
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// A file below `/static/`.
pub(super) fn static_file(path: &str) -> Option<Response<Bytes>> {
    let (content_type, text) = match path {
        "/static/bookstore.css" => ("text/css; charset=utf-8", STYLE),
        "/static/bookstore.js" => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return None,
    };
    Some(answer::with_type(StatusCode::OK, content_type, text))
}

fn session(page: &mut String, user: Option<&str>) {
    match user {
        Some(user) => {
            let user = form::html(user);
            // Writing to a String cannot fail; the same below.
            let _ =
                write!(page, "<span class=\"user\">{user}</span> <a href=\"logout\">sign out</a>");
        }
        None => page.push_str(
            "<form action=\"login\" method=\"post\"><input name=\"username\" \
             placeholder=\"user name\" aria-label=\"user name\"> <button>Sign in</button></form>",
        ),
    }
}

/// A section of the page, or a note that it could not be fetched.
fn section(page: &mut String, fetched: &Fetched, what: &str, show: fn(&mut String, &Value)) {
    let (status, value) = fetched;
    if *status == StatusCode::OK {
        return show(page, value);
    }
    let error = form::html(value["error"].as_str().unwrap_or_default());
    let _ = write!(page, "<h4>Error fetching product {what}!</h4>\n<p>{error}</p>");
}

fn book(page: &mut String, details: &Value) {
    page.push_str("<h4>Book Details</h4>\n<dl>\n");
    for (name, field) in [
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ] {
        let value = match &details[field] {
            Value::String(text) => form::html(text),
            Value::Null => continue,
            other => form::html(&other.to_string()),
        };
        let _ = writeln!(page, "<dt>{name}:</dt><dd>{value}</dd>");
    }
    page.push_str("</dl>");
}

fn all_reviews(page: &mut String, reviews: &Value) {
    page.push_str("<h4>Book Reviews</h4>\n");
    for review in reviews["reviews"].as_array().into_iter().flatten() {
        let text = form::html(review["text"].as_str().unwrap_or_default());
        let reviewer = form::html(review["reviewer"].as_str().unwrap_or_default());
        let _ = writeln!(page, "<blockquote>\n<p>{text}</p>\n<small>{reviewer}</small>");
        if let Some(rating) = review.get("rating") {
            stars(page, rating);
        }
        page.push_str("</blockquote>\n");
    }
}

/// The stars of one review. The comments are on lines of their own, because people count pages with
/// stars by `grep 'full stars' | wc -l` and get two for each.
fn stars(page: &mut String, rating: &Value) {
    let Some(full) = rating["stars"].as_u64().map(|stars| stars.min(STARS)) else {
        page.push_str("<p><i>Ratings service is currently unavailable</i></p>\n");
        return;
    };
    let color = form::html(rating["color"].as_str().unwrap_or("black"));
    let _ = writeln!(page, "<font color=\"{color}\">\n<!-- full stars: -->");
    for _ in 0..full {
        page.push_str("<span class=\"glyphicon glyphicon-star\"></span>\n");
    }
    page.push_str("<!-- empty stars: -->\n");
    for _ in full..STARS {
        page.push_str("<span class=\"glyphicon glyphicon-star-empty\"></span>\n");
    }
    page.push_str("</font>\n");
}

const TEMPLATE: &str = include_str!("../../assets/productpage.html");
const STYLE: &str = include_str!("../../assets/static/bookstore.css");
const SCRIPT: &str = include_str!("../../assets/static/bookstore.js");
const STARS: u64 = 5;
