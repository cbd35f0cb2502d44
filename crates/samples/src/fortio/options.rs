//! The flags of `fortio curl` and `fortio load`, as Go's flag package reads them: one dash or two,
//! `-flag VALUE` or `-flag=VALUE`.

use std::time::Duration;

use http::Uri;

use super::TIMEOUT;

/// What to call, and how often.
#[derive(Debug)]
pub(super) struct Options {
    /// `-curl`: one call, as `fortio curl`.
    pub(super) curl: bool,
    /// `-c`: calls at the same time. Default 4.
    pub(super) threads: u32,
    /// `-qps`: calls per second of all threads; 0 is as many as possible. Default 8.
    pub(super) qps: f64,
    /// `-n`: calls altogether.
    pub(super) calls: Option<u64>,
    /// `-t`: how long, without `-n`. Default 5 s.
    pub(super) duration: Duration,
    /// `-timeout`: longest call. Default 3 s.
    pub(super) timeout: Duration,
    pub(super) quiet: bool,
    /// Whether `-loglevel` asks for warnings.
    pub(super) logs_warnings: bool,
    pub(super) keeps: bool,
    pub(super) allow_initial_errors: bool,
    /// `-p`: percentiles of the report.
    pub(super) percentiles: Vec<f64>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) method: String,
    pub(super) payload: String,
    /// The URL as given.
    pub(super) url: String,
    /// `HOST:PORT` of it.
    pub(super) server: String,
    pub(super) authority: String,
    pub(super) path: String,
}

impl Options {
    /// Reads the command line.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = arguments.iter();
        let mut method = None;
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                options.set_url(word)?;
                if let Some(extra) = words.next() {
                    return Err(format!("unexpected argument {extra:?} after the URL"));
                }
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some(switch) = options.switch(name) {
                *switch = !matches!(value.as_deref(), Some("false" | "0"));
                continue;
            }
            let value = match value {
                Some(value) => value,
                None => words.next().cloned().ok_or(format!("-{name} needs a value"))?,
            };
            if name == "X" {
                method = Some(value);
                continue;
            }
            options.set(name, &value)?;
        }
        if options.url.is_empty() {
            return Err("the URL is missing".to_owned());
        }
        let by_payload = if options.payload.is_empty() { "GET" } else { "POST" };
        options.method = method.unwrap_or_else(|| by_payload.to_owned());
        Ok(options)
    }

    /// Time between two calls of a thread; none: at once.
    pub(super) fn pace(&self) -> Option<Duration> {
        let seconds = f64::from(self.threads) / self.qps;
        Some(self.qps).filter(|qps| *qps > 0.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "curl" => Some(&mut self.curl),
            "quiet" => Some(&mut self.quiet),
            "keepalive" => Some(&mut self.keeps),
            "allow-initial-errors" => Some(&mut self.allow_initial_errors),
            _ => None,
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("-{name}: {value:?} is no value for it");
        match name {
            "c" => {
                let threads: u32 = value.parse().map_err(|_| wrong())?;
                self.threads = threads.clamp(1, THREADS_MAX);
            }
            "qps" => {
                let qps: f64 = value.parse().map_err(|_| wrong())?;
                self.qps = Some(qps).filter(|qps| qps.is_finite()).ok_or_else(wrong)?;
            }
            "n" => self.calls = Some(value.parse().map_err(|_| wrong())?).filter(|n| *n > 0),
            "t" => self.duration = duration(value).ok_or_else(wrong)?,
            "timeout" => self.timeout = duration(value).ok_or_else(wrong)?,
            "loglevel" => self.logs_warnings = !matches!(value, "Error" | "Critical" | "Fatal"),
            "payload" => self.payload = value.to_owned(),
            "p" => {
                let read = value.split(',').map(|p| p.trim().parse().ok());
                self.percentiles = read.collect::<Option<_>>().ok_or_else(wrong)?;
            }
            "H" => {
                let (name, value) = value.split_once(':').ok_or_else(wrong)?;
                self.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            _ => return Err(format!("flag -{name} is not part of this program")),
        }
        Ok(())
    }

    fn set_url(&mut self, url: &str) -> Result<(), String> {
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = whole.parse().map_err(|_| format!("{url:?} is no URL"))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{url:?}: this program speaks plain HTTP only"));
        };
        self.url = url.to_owned();
        self.server = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        self.authority = authority.to_string();
        self.path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            curl: false,
            threads: 4,
            qps: 8.0,
            calls: None,
            duration: Duration::from_secs(5),
            timeout: TIMEOUT,
            quiet: false,
            logs_warnings: true,
            keeps: true,
            allow_initial_errors: false,
            percentiles: vec![50.0, 75.0, 90.0, 99.0, 99.9],
            headers: Vec::new(),
            method: String::new(),
            payload: String::new(),
            url: String::new(),
            server: String::new(),
            authority: String::new(),
            path: String::new(),
        }
    }
}

/// A duration as Go writes one, such as `1m30s` or `250ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Calls at the same time.
const THREADS_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_of_the_circuit_breaking_task() {
        let options = parse("-c 3 -qps 0 -n 30 -loglevel Warning http://httpbin:8000/get").unwrap();
        assert_eq!((options.threads, options.calls), (3, Some(30)));
        assert_eq!(options.pace(), None);
        assert_eq!((&*options.server, &*options.path), ("httpbin:8000", "/get"));
        let options = parse("--qps=10 -c=2 -t 1m30s -keepalive=false -H a:b httpbin").unwrap();
        assert_eq!(options.pace(), Some(Duration::from_millis(200)));
        assert_eq!(options.duration, Duration::from_secs(90));
        assert!(!options.keeps);
        assert_eq!((&*options.server, &*options.path), ("httpbin:80", "/"));
        assert_eq!((&*options.method, &*parse("-payload x a").unwrap().method), ("GET", "POST"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, why) in [
            ("", "the URL is missing"),
            ("-grpc http://a", "flag -grpc is not part of this program"),
            ("-c x http://a", "-c: \"x\" is no value for it"),
            ("-t 5 http://a", "-t: \"5\" is no value for it"),
            ("https://a/", "\"https://a/\": this program speaks plain HTTP only"),
            ("http://a b", "unexpected argument \"b\" after the URL"),
            ("-c", "-c needs a value"),
        ] {
            let words: Vec<String> =
                line.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
            assert_eq!(Options::parse(&words).unwrap_err(), why, "{line}");
        }
    }
}
