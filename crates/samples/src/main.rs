//! The workshop applications in one small binary: `ironmesh-samples VERB [ARGUMENT ...]`.
//!
//! They behave like the applications of Istio's and Linkerd's workshops, to the byte where a workshop
//! depends on it, so that a mesh can be tried without pulling an image:
//!
//! - `productpage [PORT]`, `details [PORT]`, `ratings [PORT]`, `reviews [PORT]`: Bookinfo, on port
//!   9080. `reviews-v1`, `-v2` and `-v3` are `reviews` with what those images have built in.
//! - `helloworld` (also `-v1`, `-v2`) on port 5000, `httpbin` on port 80.
//! - `podinfo VERSION` on port 9898, `myweb VERSION` and `retry-backend` on port 80.
//! - `voting-app VERSION` and `voting-analytics VERSION` on port 8080, `ratings-web` on port 8080,
//!   `ratings-api` on port 3000.
//! - `tcp-echo PORTS PREFIX`, which says lines again.
//! - `fortio`, which makes load.
//! - `nginx`, `mysqld`, `voting-storage` and `bookinfo-mysqldb`, which start the machine's nginx and
//!   MariaDB as the images of these names do.
//! - `stand-in`, for programs that ironmesh itself answers for.
//! - `sniffer`, which prints packets, by the machine's tcpdump where that can run.
//! - `sleep` and `curl`, for machines that lack them.
//!
//! They know nothing about the mesh and share no code with it.

mod answer;
mod client;
mod clock;
mod curl;
mod details;
mod form;
mod fortio;
mod headers;
mod helloworld;
mod httpbin;
mod mariadb;
mod mongo;
mod mysql;
mod myweb;
mod nginx;
mod podinfo;
mod productpage;
mod random;
mod ratings;
mod ratings_api;
mod ratings_web;
mod redis;
mod retry_backend;
mod reviews;
mod server;
mod sleep;
mod sniffer;
mod stand_in;
mod tcp_echo;
mod voting;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use reviews::Reviews;
use reviews::Variant::{V1, V2, V3};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&verb, &error),
    };
    let outcome = runtime.block_on(run(&verb, &rest));
    // A thread of the runtime may still be busy with a name lookup; do not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&verb, &error),
    }
}

/// Runs one application until it ends or is told to end.
async fn run(verb: &str, arguments: &[String]) -> io::Result<ExitCode> {
    let bookinfo = port(arguments, 9080);
    match verb {
        "productpage" => server::run(bookinfo?, productpage::ProductPage::from_env()).await?,
        "details" => server::run(bookinfo?, details::Details).await?,
        "ratings" => server::run(bookinfo?, ratings::Ratings::from_env()).await?,
        "reviews" => server::run(bookinfo?, Reviews::from_env(None)).await?,
        "reviews-v1" => server::run(bookinfo?, Reviews::from_env(Some(V1))).await?,
        "reviews-v2" => server::run(bookinfo?, Reviews::from_env(Some(V2))).await?,
        "reviews-v3" => server::run(bookinfo?, Reviews::from_env(Some(V3))).await?,
        "helloworld" | "helloworld-v1" => helloworld::run("v1").await?,
        "helloworld-v2" => helloworld::run("v2").await?,
        "httpbin" => server::run(httpbin::port(arguments), httpbin::Httpbin).await?,
        "podinfo" => podinfo::run(arguments).await?,
        "myweb" => myweb::run(arguments).await?,
        "retry-backend" => retry_backend::run().await?,
        "ratings-api" => ratings_api::run().await?,
        "ratings-web" => ratings_web::run().await?,
        "voting-app" => voting::run_app(arguments).await?,
        "voting-analytics" => voting::run_analytics(arguments).await?,
        "mysqld" => return mariadb::run(arguments, &[]),
        "voting-storage" => return mariadb::run(arguments, mariadb::VOTES),
        "bookinfo-mysqldb" => return mariadb::run(arguments, mariadb::RATINGS),
        "tcp-echo" => tcp_echo::run(arguments).await?,
        "stand-in" => stand_in::run(arguments).await?,
        "fortio" => return fortio::run(arguments).await,
        "nginx" => return nginx::run(arguments),
        "sniffer" => return sniffer::run(arguments),
        "sleep" => return sleep::run(arguments).await,
        "curl" => return curl::run(arguments).await,
        _ => {
            return Err(io::Error::other(
                "there are: productpage, details, ratings, reviews, helloworld, httpbin, podinfo, \
                 myweb, retry-backend, ratings-api, ratings-web, voting-app, voting-analytics, voting-storage, \
                 bookinfo-mysqldb, mysqld, tcp-echo, stand-in, fortio, nginx, sniffer, sleep, curl",
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The port in the first argument, or the application's default.
fn port(arguments: &[String], default: u16) -> io::Result<u16> {
    match arguments.first() {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| io::Error::other(format!("{text:?} is not a port"))),
    }
}

fn fail(verb: &str, error: &io::Error) -> ExitCode {
    // If standard error is gone there is nowhere to report it.
    let _ = writeln!(io::stderr(), "ironmesh-samples {verb}: {error}");
    ExitCode::from(2)
}
