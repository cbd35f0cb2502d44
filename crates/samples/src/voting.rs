//! The voting application: a page, the counts behind it, and where votes are kept.

mod analytics;
mod app;
mod store;

use std::env;
use std::io;

use store::Store;

use crate::server;

/// Serves the page on `PORT`, by default 8080. The first argument is the original's tag.
pub(crate) async fn run_app(arguments: &[String]) -> io::Result<()> {
    server::run(port(), app::VotingApp::from_env(Store::of_version(version(arguments)))?).await
}

/// Serves the counts on `PORT`, by default 8080. The first argument is the original's tag.
pub(crate) async fn run_analytics(arguments: &[String]) -> io::Result<()> {
    let version = version(arguments);
    let analytics = analytics::Analytics {
        has_percentages: version != Some("1.0"),
        store: Store::of_version(version),
        choices: choices(),
    };
    server::run(port(), analytics).await
}

fn version(arguments: &[String]) -> Option<&str> {
    arguments.first().map(String::as_str).filter(|version| *version != "latest")
}

fn port() -> u16 {
    variable("PORT").and_then(|port| port.parse().ok()).unwrap_or(8080)
}

/// What can be voted for: `VOTE1VALUE` and `VOTE2VALUE`.
fn choices() -> [String; 2] {
    [("VOTE1VALUE", "Cats"), ("VOTE2VALUE", "Dogs")]
        .map(|(name, default)| variable(name).unwrap_or_else(|| default.to_owned()))
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
