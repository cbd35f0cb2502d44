use super::*;
use crate::settings::AccessLogEncoding::{Json, Text};

fn told(command: Command, argument: &str, length_max: Option<usize>, form: Form) -> Piece {
    Piece::Told { command, argument: argument.to_owned(), length_max, form }
}

fn literal(text: &str) -> Piece {
    Piece::Literal(text.to_owned())
}

#[test]
fn a_text_has_literals_and_operators_and_ends_its_line() {
    let format = LogFormat::parse("[%START_TIME(%s.%3f)%] 100%% %REQ(X-A?x-b):3% é").unwrap();
    assert_eq!(
        format.pieces(Text).unwrap(),
        [
            literal("["),
            told(Command::StartTime, "%s.%3f", None, Form::Text),
            literal("] 100% "),
            told(Command::Request, "x-a?x-b", Some(3), Form::Text),
            literal(" é\n"),
        ]
    );
    let format = LogFormat::parse("%PROTOCOL%%DURATION%\n").unwrap();
    let protocol = told(Command::Protocol, "", None, Form::Text);
    let duration = told(Command::Duration, "", None, Form::Text);
    assert_eq!(format.pieces(Text).unwrap(), [protocol, duration, literal("\n")]);
    assert_eq!(format.notes().count(), 0);
    assert_eq!(LogFormat::parse("").unwrap().pieces(Text), None);
}

#[test]
fn an_object_keeps_its_order_and_the_types_of_operators_that_are_alone() {
    let format = LogFormat::parse(
        r#"{"b": "%DURATION%", "a\"": "\\ %PROTOCOL% \u000a", "in": {"l": ["%%", 1, null]}, "o": {}}"#,
    );
    assert_eq!(
        format.unwrap().pieces(Json).unwrap(),
        [
            literal(r#"{"b":"#),
            told(Command::Duration, "", None, Form::JsonValue),
            literal(r#","a\"":"\\ "#),
            told(Command::Protocol, "", None, Form::JsonText),
            literal(" \\n\",\"in\":{\"l\":[\"%\",1,null]},\"o\":{}}\n"),
        ]
    );
}

#[test]
fn what_proxies_have_nothing_for_is_noted_once() {
    let format =
        LogFormat::parse("%METADATA(ROUTE:a)% %METADATA(ROUTE:b)% %START_TIME(%Q)% %CEL(a)%");
    let format = format.unwrap();
    let notes: Vec<&str> = format.notes().collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("%CEL% is always \"-\", or null: proxies"), "{notes:?}");
    assert!(notes[2].contains("does not know \"%Q\""), "{notes:?}");
    let Some([Piece::Literal(start), ..]) = format.pieces(Text) else { panic!("a literal") };
    assert_eq!(start, "- - ");
    let format = LogFormat::parse(r#"{"a": "%CEL(a)%", "b": "(%CEL(a)%)"}"#).unwrap();
    assert_eq!(format.pieces(Json).unwrap(), [literal("{\"a\":null,\"b\":\"(-)\"}\n")]);
    assert_eq!(format.notes().count(), 1);
}

#[test]
fn what_is_no_format_says_why() {
    let long = "x".repeat(FORMAT_BYTES_MAX + 1);
    let many = "%DURATION%".repeat(OPERATORS_MAX + 1);
    let deep = format!("{{\"a\":{}", "[".repeat(FORMAT_BYTES_MAX / 2));
    for (source, said) in [
        ("%REQ(a", "\"%REQ(a\" is no operator"),
        ("50% of", "\"% of\" is no operator"),
        ("%req(a)%", "\"%req(a)%\" is no operator"),
        ("%RESPONSE_CDOE%", "no operator %RESPONSE_CDOE%; did you mean %RESPONSE_CODE%?"),
        ("%NO_SUCH_OPERATOR_AT_ALL%", "no operator %NO_SUCH_OPERATOR_AT_ALL%"),
        ("%PROTOCOL(x)%", "%PROTOCOL% takes no argument"),
        ("%REQ%", "%REQ% takes the name of a header"),
        ("%GRPC_STATUS(x)%", "%GRPC_STATUS% takes CAMEL_STRING, SNAKE_STRING, NUMBER, or nothing"),
        (&long, "at most 8192 bytes, and this has 8193"),
        (&many, "at most 128 operators"),
        (r#"{"a": {"b": "%X"}}"#, "\"a\": \"b\": \"%X\" is no operator"),
    ] {
        let error = LogFormat::parse(source).unwrap_err().to_string();
        assert!(error.contains(said), "{source}: {error}");
    }
    // Text may be anything; an object has a form.
    for source in ["plain", "[1]", "{", "{\"a\": }", "{} x", &deep] {
        let format = LogFormat::parse(source).unwrap();
        assert!(format.pieces(Json).is_none() && format.check(Text).is_ok(), "{source}");
        let error = format.check(Json).unwrap_err().to_string();
        assert!(error.starts_with("accessLogEncoding is JSON, so"), "{source}: {error}");
    }
    // And an object may be one whose keys are no text with operators.
    let format = LogFormat::parse(r#"{"cpu%": "%DURATION%"}"#).unwrap();
    assert!(format.check(Json).is_ok() && format.check(Text).is_err());
}
