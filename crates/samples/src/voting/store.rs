//! Where votes are kept: in Redis (1.x) or in MySQL (2.x).

use std::io;

use tokio::sync::Mutex;

use super::variable;
use crate::mysql::{MySql, quoted};
use crate::redis::Redis;

/// A store of votes.
#[derive(Debug)]
pub(super) enum Store {
    /// A number by the name of each choice.
    Redis(Redis),
    /// A row of the table `azurevote` for each vote.
    MySql(MySql),
}

impl Store {
    /// As a version has it, from `REDIS_HOST`, `REDIS_PORT`, or `MYSQL_HOST`, `MYSQL_PORT`,
    /// `MYSQL_USER`, `MYSQL_PASSWORD`, `MYSQL_DATABASE`. Without a version, as these are set.
    pub(super) fn of_version(version: Option<&str>) -> Self {
        let is_mysql = match version {
            Some(version) => !version.starts_with("1."),
            None => variable("MYSQL_HOST").is_some(),
        };
        let or = |name, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
        if !is_mysql {
            let server = format!("{}:{}", or("REDIS_HOST", "localhost"), or_port("REDIS", 6379));
            return Self::Redis(Redis::new(server));
        }
        Self::MySql(MySql {
            server: format!("{}:{}", or("MYSQL_HOST", "localhost"), or_port("MYSQL", 3306)),
            user: or("MYSQL_USER", "dbuser"),
            password: or("MYSQL_PASSWORD", ""),
            database: or("MYSQL_DATABASE", "azurevote"),
            connection: Mutex::default(),
        })
    }

    /// What the page calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::MySql(_) => "mysql",
        }
    }

    /// Adds one vote.
    pub(super) async fn vote(&self, choice: &str) -> io::Result<()> {
        match self {
            Self::Redis(redis) => redis.command(&["INCR", choice]).await.map(drop),
            Self::MySql(mysql) => {
                let text = format!("INSERT INTO {TABLE} (votevalue) VALUES ({})", quoted(choice));
                mysql.query(&text).await.map(drop)
            }
        }
    }

    /// Forgets all votes.
    pub(super) async fn reset(&self, choices: &[String]) -> io::Result<()> {
        match self {
            Self::Redis(redis) => {
                for choice in choices {
                    redis.command(&["SET", choice, "0"]).await?;
                }
                Ok(())
            }
            Self::MySql(mysql) => mysql.query(&format!("DELETE FROM {TABLE}")).await.map(drop),
        }
    }

    /// The votes for one choice.
    pub(super) async fn count(&self, choice: &str) -> io::Result<u64> {
        let count = match self {
            Self::Redis(redis) => redis.command(&["GET", choice]).await?,
            Self::MySql(mysql) => {
                let choice = quoted(choice);
                let text = format!("SELECT COUNT(*) FROM {TABLE} WHERE votevalue = {choice}");
                mysql.query(&text).await?.into_iter().flatten().next().flatten()
            }
        };
        let Some(count) = count else { return Ok(0) };
        count.parse().map_err(|_| io::Error::other(format!("{count:?} is no count of votes")))
    }
}

/// `{NAME}_PORT`. Kubernetes sets that of a Service to a URL, which is not meant.
fn or_port(name: &str, default: u16) -> u16 {
    variable(&format!("{name}_PORT")).and_then(|port| port.parse().ok()).unwrap_or(default)
}

const TABLE: &str = "azurevote";
