//! `sleep`, for pods that only wait for `exec`: as in coreutils, but without arguments it sleeps
//! forever.

use std::future;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Sleeps for the sum of the arguments: `infinity`, or numbers with s, m, h or d.
pub(crate) async fn run(arguments: &[String]) -> io::Result<ExitCode> {
    let mut total = Some(Duration::ZERO);
    for argument in arguments {
        let Some(length) = parse(argument) else {
            return Err(io::Error::other(format!("invalid time interval {argument:?}")));
        };
        total = match (total, length) {
            (Some(total), Length::Finite(length)) => total.checked_add(length),
            _ => None,
        };
    }
    match total {
        Some(total) if !arguments.is_empty() => tokio::time::sleep(total).await,
        _ => future::pending().await,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, PartialEq)]
enum Length {
    Finite(Duration),
    Infinite,
}

fn parse(text: &str) -> Option<Length> {
    if text == "infinity" || text == "inf" {
        return Some(Length::Infinite);
    }
    let (number, unit) = match text.chars().last()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok()? * unit;
    Duration::try_from_secs_f64(seconds).ok().map(Length::Finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let seconds = |n| Some(Length::Finite(Duration::from_secs(n)));
        for (text, expected) in [
            ("infinity", Some(Length::Infinite)),
            ("3650d", seconds(3650 * 86_400)),
            ("2m", seconds(120)),
            ("1", seconds(1)),
            ("", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn it_ends() {
        assert!(run(&["0.01s".to_owned(), "0m".to_owned()]).await.is_ok());
    }
}
