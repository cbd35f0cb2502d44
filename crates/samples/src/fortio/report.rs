//! What a load says of itself, line by line as the original's.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use super::Tally;
use super::options::Options;

/// Before the first call.
pub(super) fn begin(options: &Options) -> io::Result<()> {
    let Options { threads, qps, url, duration, .. } = options;
    let how_long = match options.calls {
        Some(calls) => format!("for {calls} calls"),
        None => format!("for {duration:?}"),
    };
    let mut out = io::stdout();
    writeln!(
        out,
        "Fortio (ironmesh-samples) running at {qps} queries per second, {how_long}: {url}"
    )?;
    let rate = if *qps > 0.0 { format!("{qps} qps") } else { "max qps".to_owned() };
    match options.calls {
        Some(calls) => {
            let (each, more) = (calls / u64::from(*threads), calls % u64::from(*threads));
            writeln!(
                out,
                "Starting at {rate} with {threads} thread(s) for exactly {calls} calls ({each} per \
                 thread + {more})"
            )
        }
        None => writeln!(out, "Starting at {rate} with {threads} thread(s) for {duration:?}"),
    }
}

/// After the last.
pub(super) fn end(options: &Options, tally: &Tally, took: Duration) -> io::Result<()> {
    io::stdout().write_all(summary(options, tally, took).as_bytes())
}

fn summary(options: &Options, tally: &Tally, took: Duration) -> String {
    let count = tally.times.len();
    let qps = count as f64 / took.as_secs_f64();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Ended after {took:?} : {count} calls. qps={qps:.5}");
    let _ = writeln!(text, "Aggregated Function Time : {}", statistics(&tally.times));
    let mut sorted = tally.times.clone();
    sorted.sort_by(f64::total_cmp);
    for percentile in options.percentiles.iter().filter(|_| count > 0) {
        let rank = ((percentile / 100.0 * count as f64).ceil() as usize).clamp(1, count);
        let _ = writeln!(text, "# target {percentile}% {:.7}", sorted[rank - 1]);
    }
    let perfect = options.threads;
    let _ = writeln!(
        text,
        "Sockets used: {} (for perfect keepalive, would be {perfect})",
        tally.sockets
    );
    for (code, calls) in &tally.codes {
        let share = *calls as f64 * 100.0 / count as f64;
        let _ = writeln!(text, "Code {code:3} : {calls} ({share:.1} %)");
    }
    let _ = writeln!(text, "Response Header Sizes : {}", statistics(&tally.head_bytes));
    let _ = writeln!(text, "Response Body/Total Sizes : {}", statistics(&tally.all_bytes));
    let average = tally.times.iter().sum::<f64>() / count.max(1) as f64 * 1e3;
    let _ =
        writeln!(text, "All done {count} calls (plus 0 warmup) {average:.3} ms avg, {qps:.1} qps");
    text
}

/// `count N avg A +/- D min M max X sum S`.
fn statistics(values: &[f64]) -> String {
    let count = values.len();
    let sum: f64 = values.iter().sum();
    let average = sum / count.max(1) as f64;
    let squares = values.iter().map(|value| (value - average).powi(2)).sum::<f64>();
    let deviation = (squares / count.max(1) as f64).sqrt();
    let min = values.iter().copied().reduce(f64::min).unwrap_or_default();
    let max = values.iter().copied().reduce(f64::max).unwrap_or_default();
    let short = |value: f64| {
        let text = format!("{value:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let [average, deviation, min, max, sum] = [average, deviation, min, max, sum].map(short);
    format!("count {count} avg {average} +/- {deviation} min {min} max {max} sum {sum}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_lines_that_are_looked_for() {
        let options = Options { threads: 2, ..Options::default() };
        let tally = Tally {
            times: vec![0.001, 0.002, 0.003, 0.004],
            codes: [(200, 3), (503, 1), (-1, 0)].into(),
            sockets: 2,
            head_bytes: vec![100.0; 4],
            all_bytes: vec![150.0; 4],
        };
        let text = summary(&options, &tally, Duration::from_secs(1));
        for line in [
            "Ended after 1s : 4 calls. qps=4.00000",
            "Aggregated Function Time : count 4 avg 0.0025 +/- 0.001118034 min 0.001 max 0.004 sum 0.01",
            "# target 50% 0.0020000",
            "# target 99.9% 0.0040000",
            "Sockets used: 2 (for perfect keepalive, would be 2)",
            "Code 200 : 3 (75.0 %)",
            "Code 503 : 1 (25.0 %)",
            "Code  -1 : 0 (0.0 %)",
            "Response Header Sizes : count 4 avg 100 +/- 0 min 100 max 100 sum 400",
            "All done 4 calls (plus 0 warmup) 2.500 ms avg, 4.0 qps",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }
}
