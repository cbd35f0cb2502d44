use super::*;

#[test]
fn only_this_machine_is_asked_by_plain_http_and_no_other_leads_there() {
    let may = |url: &str, from| check_url(&Url::parse(url).unwrap(), from).is_ok();
    assert!(may("https://cdn.example/x", false) && may("https://cdn.example/x", true));
    assert!(may("http://127.0.0.1:5000/x", true) && may("http://[::1]/x", true));
    assert!(!may("http://127.0.0.1:5000/x", false) && !may("https://localhost/x", false));
    assert!(!may("http://cdn.example/x", true) && !may("http://169.254.169.254/", false));
    assert!(!may("ftp://cdn.example/x", false) && !may("file:///etc/passwd", true));
}

#[test]
fn what_a_registry_says_is_shown_in_short() {
    let text = format!(r#"{{"errors":[{{"message":"no\u001b[2J{}"}}]}}"#, "x".repeat(1_000));
    assert!(reason(text.as_bytes()).starts_with(": no[2Jxx"));
    assert_eq!(reason(text.as_bytes()).len(), SHOWN_CHARS + 2);
    assert_eq!(reason(b"<html>"), "");
}
