//! The process's own log, on standard error; its level can be changed while it runs.

use std::io;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// Starts the log, at the level that `RUST_LOG` says or at `info`.
pub(crate) fn start() -> LogLevel {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    // A line that cannot be written, as on a full disk, is lost; saying so would panic.
    let lines = fmt::layer().with_writer(io::stderr).log_internal_errors(false).with_ansi(false);
    // Whoever runs a proxy inside another program may have a log already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogLevel(handle)
}

impl LogLevel {
    /// The level of a log that is written nowhere.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        Self(reload::Layer::new(EnvFilter::new("info")).1)
    }

    /// Sets it: `debug`, or directives such as `ironmesh_proxy=trace,info`.
    pub(crate) fn set(&self, directives: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(directives).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }

    /// What it is.
    pub(crate) fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_can_be_changed() {
        let (_filter, handle) = reload::Layer::<EnvFilter, Registry>::new(EnvFilter::new("info"));
        let level = LogLevel(handle);
        assert_eq!(level.current(), "info");
        level.set("debug").unwrap();
        assert_eq!(level.current(), "debug");
        assert!(level.set("ironmesh_proxy=nonsense").is_err());
        assert_eq!(level.current(), "debug");
    }
}
