use std::sync::atomic::{AtomicU64, Ordering};

use http::{Response, StatusCode};

use super::*;
use crate::answer;
use crate::server::App;
use crate::server::tests::start;

/// Fails every fourth call.
#[derive(Default)]
struct Fourth(AtomicU64);

impl App for Fourth {
    async fn answer(&self, _: Request<Bytes>) -> Response<Bytes> {
        let is_fourth = self.0.fetch_add(1, Ordering::Relaxed) % 4 == 3;
        let status = if is_fourth { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        answer::text(status, "fine")
    }
}

fn options(line: &str) -> Arc<Options> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    Arc::new(Options::parse(&words).unwrap())
}

#[tokio::test]
async fn a_load_counts_what_came_back_over_kept_connections() {
    let address = start(Fourth::default()).await;
    let options = options(&format!("-c 1 -qps 0 -n 20 -loglevel Error http://{address}/"));
    let left = Arc::new(AtomicU64::new(20));
    let tally = thread(options, left, Instant::now(), 0).await;
    assert_eq!(tally.codes, BTreeMap::from([(200, 15), (503, 5)]));
    assert_eq!((tally.sockets, tally.times.len()), (1, 20));
}

#[tokio::test]
async fn without_keepalive_each_call_has_its_connection() {
    let address = start(Fourth::default()).await;
    let options = options(&format!("-c 1 -qps 0 -n 3 -keepalive=false http://{address}/"));
    let tally = thread(options, Arc::new(AtomicU64::new(3)), Instant::now(), 0).await;
    assert_eq!(tally.sockets, 3);
}

#[tokio::test]
async fn nobody_there_is_code_minus_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut caller = Caller::new(options(&format!("http://{address}/")));
    let answer = caller.call().await;
    assert_eq!((answer.code, answer.head), (-1, None));
}
