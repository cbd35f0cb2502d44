use super::*;
use crate::httpbin::Httpbin;
use crate::server::tests::start;

async fn fetch(line: &str) -> (Outcome, Option<Failure>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    words.extend(["-o".to_owned(), file.display().to_string()]);
    let options = Options { proxy: None, ..Options::parse(&words).unwrap() };
    let (outcome, error) = with_retries(&options, &options.urls[0]).await;
    let body = std::fs::read_to_string(&file).unwrap_or_default();
    (outcome, error, body)
}

#[tokio::test]
async fn a_page_with_headers_and_data() {
    let server = start(Httpbin).await;
    let (outcome, error, body) =
        fetch(&format!("-s -H Host:a.b -H X-A:1 -d k=v {server}/post?failRate=1")).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(outcome.status, 200);
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value["headers"]["Host"], "a.b");
    assert_eq!(value["headers"]["X-A"], "1");
    assert_eq!(value["form"]["k"], "v");
    assert_eq!(value["args"]["failRate"], "1");
}

#[tokio::test]
async fn a_query_needs_no_path() {
    let server = start(Httpbin).await;
    let (outcome, ..) = fetch(&format!("http://{server}?a=b")).await;
    assert_eq!(outcome.status, 200);
}

#[tokio::test]
async fn exit_codes_are_curls() {
    let server = start(Httpbin).await;
    for (line, code) in [
        (format!("-f http://{server}/status/503"), 22),
        ("http://127.0.0.1:1/".to_owned(), 7),
        ("https://127.0.0.1/".to_owned(), 1),
        ("http://".to_owned(), 3),
        (format!("-m 1 http://{server}/delay/5"), 28),
    ] {
        let (_, error, _) = fetch(&line).await;
        assert_eq!(error.map(|error| error.code()), Some(code), "{line}");
    }
}

#[tokio::test]
async fn write_out_fills_its_places() {
    let server = start(Httpbin).await;
    let (outcome, ..) = fetch(&format!("http://{server}/status/404")).await;
    let text = write_out("%{http_code} %{size_download}%%\\n%{none}x", &outcome, 0);
    assert_eq!(text, "404 0%\nx");
    assert_eq!(write_out("%{http_code}", &Outcome::default(), 7), "000");
}
