use super::*;
use crate::details::Details;
use crate::ratings::Ratings;
use crate::server::tests::{body, get, request, start};

/// Nobody listens there.
const DOWN: &str = "127.0.0.1:1";

async fn shop(reviews: &str) -> ProductPage {
    ProductPage {
        details: start(Details).await.to_string(),
        reviews: reviews.to_owned(),
        ratings: start(Ratings::default()).await.to_string(),
        flood_factor: 0,
        client: Arc::default(),
    }
}

/// Answers like `reviews`, from a queue; then as the last in it.
struct Scripted(std::sync::Mutex<Vec<(u16, &'static str)>>);

impl App for Scripted {
    async fn answer(&self, _: Request<Bytes>) -> Response<Bytes> {
        let mut script = self.0.lock().unwrap();
        let (status, body) = if script.len() > 1 { script.remove(0) } else { script[0] };
        answer::text(StatusCode::from_u16(status).unwrap(), body)
    }
}

async fn scripted(script: &[(u16, &'static str)]) -> String {
    start(Scripted(std::sync::Mutex::new(script.to_vec()))).await.to_string()
}

/// Answers with the `end-user` that it was called with.
struct WhoAmI;

impl App for WhoAmI {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let user = request.headers().get("end-user").map(|user| user.to_str().unwrap().to_owned());
        let id = request.headers().get("x-request-id").map(|id| id.to_str().unwrap().to_owned());
        answer::json(StatusCode::OK, &json!({ "user": user, "id": id }))
    }
}

const STARRED: &str = r#"{"id":"0","reviews":[
    {"reviewer":"Reviewer1","text":"a < b","rating":{"stars":5,"color":"red"}},
    {"reviewer":"Reviewer2","text":"t","rating":{"stars":4,"color":"red"}}]}"#;

#[tokio::test]
async fn the_page_has_what_workshops_look_for() {
    let app = shop(&scripted(&[(200, STARRED)]).await).await;
    let answer = app.answer(get("/productpage?u=normal")).await;
    let page = body(&answer);
    let lines: Vec<&str> = page.lines().map(str::trim).collect();
    assert!(lines.contains(&"<title>Simple Bookstore App</title>"), "{page}");
    for text in ["The Comedy of Errors", "Book Details", "Book Reviews", "a &lt; b", "1234567890"] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    let count = |wanted: &str| lines.iter().filter(|line| **line == wanted).count();
    assert_eq!(count("<!-- full stars: -->"), 2, "{page}");
    assert_eq!(count("<!-- empty stars: -->"), 2, "{page}");
    assert_eq!(page.matches("glyphicon-star\"").count(), 9, "{page}");
    assert_eq!(page.matches("glyphicon-star-empty\"").count(), 1, "{page}");
    assert!(!page.contains("Error fetching"), "{page}");
    assert!(!page.contains("{{"), "{page}");
}

#[tokio::test]
async fn without_ratings_there_are_no_star_comments() {
    let v1 = r#"{"id":"0","reviews":[{"reviewer":"Reviewer1","text":"t"}]}"#;
    let app = shop(&scripted(&[(200, v1)]).await).await;
    assert!(!body(&app.answer(get("/productpage")).await).contains("full stars"));

    let failed = r#"{"id":"0","reviews":[{"reviewer":"Reviewer1","text":"t",
        "rating":{"error":"Ratings service is currently unavailable"}}]}"#;
    let app = shop(&scripted(&[(200, failed)]).await).await;
    let answer = app.answer(get("/productpage")).await;
    assert!(body(&answer).contains("Ratings service is currently unavailable"));
    assert!(!body(&answer).contains("full stars"));
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said() {
    let mut app = shop(DOWN).await;
    app.details = DOWN.to_owned();
    let answer = app.answer(get("/productpage")).await;
    assert_eq!(answer.status(), 200);
    for text in [
        "Error fetching product details!",
        "Sorry, product details are currently unavailable for this book.",
        "Error fetching product reviews!",
        "Sorry, product reviews are currently unavailable for this book.",
    ] {
        assert!(body(&answer).contains(text), "{text}");
    }
}

#[tokio::test]
async fn reviews_are_tried_twice() {
    let app = shop(&scripted(&[(500, ""), (200, STARRED)]).await).await;
    assert!(!body(&app.answer(get("/productpage")).await).contains("Error fetching"));
    let app = shop(&scripted(&[(500, ""), (503, ""), (200, STARRED)]).await).await;
    assert!(body(&app.answer(get("/productpage")).await).contains("Error fetching"));
}

#[tokio::test]
async fn the_api_passes_on_what_services_tell() {
    let app = shop(&scripted(&[(200, STARRED)]).await).await;
    let json = |answer: &Response<Bytes>| serde_json::from_str::<Value>(body(answer)).unwrap();
    let products = app.answer(get("/api/v1/products")).await;
    assert_eq!(json(&products)[0]["title"], "The Comedy of Errors");
    let details = app.answer(get("/api/v1/products/0")).await;
    assert_eq!(json(&details)["author"], "William Shakespeare");
    let ratings = app.answer(get("/api/v1/products/0/ratings")).await;
    assert_eq!(json(&ratings)["ratings"]["Reviewer1"], 5);
    let reviews = app.answer(get("/api/v1/products/0/reviews")).await;
    assert_eq!(json(&reviews)["reviews"][1]["reviewer"], "Reviewer2");
    assert_eq!(app.answer(get("/api/v1/products/x")).await.status(), 404);

    let app = shop(&scripted(&[(418, "")]).await).await;
    let failed = app.answer(get("/api/v1/products/0/reviews")).await;
    assert_eq!(failed.status(), 418);
    assert_eq!(
        body(&failed),
        r#"{"error":"Sorry, product reviews are currently unavailable for this book."}"#
    );
}

#[tokio::test]
async fn the_user_of_a_session_goes_out_as_end_user() {
    let mut app = shop(DOWN).await;
    app.details = start(WhoAmI).await.to_string();
    let login = request("POST", "/login", "username=jason&passwd=");
    let answer = app.answer(login).await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], "/productpage");
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();

    let mut signed_in = get("/api/v1/products/0");
    signed_in.headers_mut().insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
    signed_in.headers_mut().insert("x-request-id", HeaderValue::from_static("7"));
    let seen = app.answer(signed_in).await;
    assert_eq!(body(&seen), r#"{"user":"jason","id":"7"}"#);

    let mut forged = get("/api/v1/products/0");
    forged.headers_mut().insert("end-user", HeaderValue::from_static("jason"));
    assert_eq!(body(&app.answer(forged).await), r#"{"user":null,"id":null}"#);

    let mut leave = get("/logout");
    leave.headers_mut().insert(REFERER, HeaderValue::from_static("http://a/productpage"));
    let answer = app.answer(leave).await;
    assert_eq!(answer.headers()["location"], "http://a/productpage");
    assert!(answer.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn other_paths() {
    let app = shop(DOWN).await;
    for (path, status) in [
        ("/", 200),
        ("/index.html", 200),
        ("/static/bookstore.css", 200),
        ("/static/img/favicon.ico", 404),
        ("/login", 405),
        ("/nothing", 404),
    ] {
        assert_eq!(app.answer(get(path)).await.status(), status, "{path}");
    }
    assert_eq!(body(&app.answer(get("/health")).await), "Product page is healthy");
}
