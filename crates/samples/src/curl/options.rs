//! The supported options of `curl`.

use std::env;
use std::time::Duration;

/// A parsed command line.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) urls: Vec<String>,
    /// `-X`.
    pub(super) method: Option<String>,
    /// `-H`, `-A`, `-e`, `-b`: lines `Name: value`; `Name:` removes one that curl sets itself.
    pub(super) headers: Vec<String>,
    /// `-d` and its variants, joined by `&`.
    pub(super) data: Option<String>,
    /// `-G`: the data goes into the query.
    pub(super) data_in_query: bool,
    /// `-o`.
    pub(super) output: Option<String>,
    /// `-w`.
    pub(super) write_out: Option<String>,
    /// `-s`.
    pub(super) silent: bool,
    /// `-S`.
    pub(super) show_error: bool,
    /// `-i`, `-I`.
    pub(super) show_head: bool,
    /// `-I`.
    pub(super) head_only: bool,
    /// `-v`.
    pub(super) verbose: bool,
    /// `-f`.
    pub(super) fail: bool,
    /// `-L`.
    pub(super) follow: bool,
    /// `-m`.
    pub(super) time_max: Option<Duration>,
    /// `--connect-timeout`.
    pub(super) connect_max: Option<Duration>,
    /// `--retry`.
    pub(super) retries: u32,
    /// `--retry-delay`.
    pub(super) retry_delay: Option<Duration>,
    /// `--retry-connrefused`, `--retry-all-errors`.
    pub(super) retry_refused: bool,
    /// `-x`, or `http_proxy` of the environment.
    pub(super) proxy: Option<String>,
    /// `--resolve HOST:PORT:ADDRESS`.
    pub(super) resolve: Vec<String>,
}

impl Options {
    /// Parses a command line; the error is what curl would print.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { proxy: env::var("http_proxy").ok(), ..Self::default() };
        let mut words = arguments.iter().cloned();
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let mut value = || words.next().ok_or(format!("option {word}: requires parameter"));
                options.long(long, &mut value)?;
            } else if word.len() > 1 && word.starts_with('-') {
                options.short(&word[1..], &mut words)?;
            } else {
                options.urls.push(word);
            }
        }
        if options.urls.is_empty() {
            return Err("no URL specified".to_owned());
        }
        options.proxy = options.proxy.filter(|proxy| !proxy.is_empty());
        Ok(options)
    }

    /// A word of short options, the last of which may take the rest of it, or the next word.
    fn short(
        &mut self,
        letters: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == letter) else {
                return Err(format!("option -{letter}: is unknown"));
            };
            let rest = &letters[at + letter.len_utf8()..];
            let mut took_rest = false;
            let mut value = || {
                took_rest = true;
                if rest.is_empty() { words.next() } else { Some(rest.to_owned()) }
                    .ok_or(format!("option -{letter}: requires parameter"))
            };
            self.long(long, &mut value)?;
            if took_rest {
                break;
            }
        }
        Ok(())
    }

    fn long(
        &mut self,
        name: &str,
        value: &mut dyn FnMut() -> Result<String, String>,
    ) -> Result<(), String> {
        match name {
            "request" => self.method = Some(value()?),
            "header" => self.headers.push(value()?),
            "user-agent" => self.headers.push(format!("User-Agent: {}", value()?)),
            "referer" => self.headers.push(format!("Referer: {}", value()?)),
            "cookie" => self.headers.push(format!("Cookie: {}", value()?)),
            "data" | "data-raw" | "data-binary" | "data-ascii" => self.add_data(value()?),
            "json" => {
                self.add_data(value()?);
                self.headers.push("Content-Type: application/json".to_owned());
                self.headers.push("Accept: application/json".to_owned());
            }
            "get" => self.data_in_query = true,
            "output" => self.output = Some(value()?),
            "write-out" => self.write_out = Some(value()?),
            "silent" => self.silent = true,
            "show-error" => self.show_error = true,
            "include" | "show-headers" => self.show_head = true,
            "head" => (self.head_only, self.show_head) = (true, true),
            "verbose" => self.verbose = true,
            "fail" => self.fail = true,
            "location" => self.follow = true,
            "max-time" => self.time_max = Some(seconds(&value()?)?),
            "connect-timeout" => self.connect_max = Some(seconds(&value()?)?),
            "retry" => self.retries = value()?.parse().map_err(|_| "bad number for --retry")?,
            "retry-delay" => self.retry_delay = Some(seconds(&value()?)?),
            "retry-connrefused" | "retry-all-errors" => self.retry_refused = true,
            "proxy" => self.proxy = Some(value()?),
            "noproxy" => {
                value()?;
                self.proxy = None;
            }
            "resolve" => self.resolve.push(value()?),
            // Always the case here, or meaningless for plain HTTP.
            "insecure" | "no-buffer" | "http1.1" | "ipv4" | "globoff" | "compressed"
            | "no-progress-meter" | "no-keepalive" | "path-as-is" => {}
            _ => return Err(format!("option --{name}: is unknown")),
        }
        Ok(())
    }

    fn add_data(&mut self, more: String) {
        match &mut self.data {
            Some(data) => {
                data.push('&');
                data.push_str(&more);
            }
            None => self.data = Some(more),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or(format!("expected a number of seconds, not {text:?}"))
}

/// Short options and the long ones that they stand for.
const SHORT: [(char, &str); 24] = [
    ('X', "request"),
    ('H', "header"),
    ('A', "user-agent"),
    ('e', "referer"),
    ('b', "cookie"),
    ('d', "data"),
    ('G', "get"),
    ('o', "output"),
    ('w', "write-out"),
    ('s', "silent"),
    ('S', "show-error"),
    ('i', "include"),
    ('I', "head"),
    ('v', "verbose"),
    ('f', "fail"),
    ('L', "location"),
    ('m', "max-time"),
    ('x', "proxy"),
    ('k', "insecure"),
    ('N', "no-buffer"),
    ('4', "ipv4"),
    ('g', "globoff"),
    ('0', "http1.1"),
    ('#', "no-progress-meter"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn short_options_join_and_take_values() {
        let options = parse("-sSo/dev/null -w %{http_code} -HHost:a -vm 2 http://b").unwrap();
        assert!(options.silent && options.show_error && options.verbose);
        assert_eq!(options.output.as_deref(), Some("/dev/null"));
        assert_eq!(options.write_out.as_deref(), Some("%{http_code}"));
        assert_eq!(options.headers, ["Host:a"]);
        assert_eq!(options.time_max, Some(Duration::from_secs(2)));
        assert_eq!(options.urls, ["http://b"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, error) in [
            ("-Z http://a", "option -Z: is unknown"),
            ("--nonsense http://a", "option --nonsense: is unknown"),
            ("-s", "no URL specified"),
            ("http://a -o", "option -o: requires parameter"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error);
        }
    }
}
