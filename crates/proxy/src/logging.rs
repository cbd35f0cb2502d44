//! The process's own log, on standard error; its levels can be changed while it runs, as a whole or
//! by part.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the levels of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
    levels: Arc<Mutex<Levels>>,
}

/// What is logged.
#[derive(Clone, Debug)]
struct Levels {
    /// As the process began.
    at_first: String,
    /// What holds for all parts that have no level of their own: one, or directives for modules.
    all: String,
    /// By index into [`PARTS`].
    parts: BTreeMap<usize, &'static str>,
}

/// Starts the log, at the level that `RUST_LOG` says or at `info`.
pub(crate) fn start() -> LogLevel {
    let at_first = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (level, filter) = LogLevel::over(at_first);
    // A line that cannot be written, as on a full disk, is lost; saying so would panic.
    let lines = fmt::layer().with_writer(io::stderr).log_internal_errors(false).with_ansi(false);
    // Whoever runs a proxy inside another program may have a log already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    level
}

impl LogLevel {
    fn over(filter: EnvFilter) -> (Self, reload::Layer<EnvFilter, Registry>) {
        let at_first = filter.to_string();
        let levels = Levels { all: at_first.clone(), at_first, parts: BTreeMap::new() };
        let (layer, filter) = reload::Layer::new(filter);
        (Self { filter, levels: Arc::new(Mutex::new(levels)) }, layer)
    }

    /// The level of a log that is written nowhere.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        Self::over(EnvFilter::new("info")).0
    }

    /// Sets levels: `debug` for all parts, `http:debug,wire:trace` for some of them, or directives of
    /// Rust's modules such as `ironmesh_proxy=trace,info`. Nothing changes if any of it is wrong.
    pub(crate) fn set(&self, text: &str) -> Result<(), String> {
        self.change(|levels| levels.set(text))
    }

    /// Sets all levels to what they were when the process began.
    pub(crate) fn reset(&self) -> Result<(), String> {
        self.change(|levels| {
            levels.all.clone_from(&levels.at_first);
            levels.parts.clear();
            Ok(())
        })
    }

    fn change(&self, how: impl FnOnce(&mut Levels) -> Result<(), String>) -> Result<(), String> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = levels.clone();
        how(&mut changed)?;
        let filter = EnvFilter::try_new(changed.directives()).map_err(|error| error.to_string())?;
        self.filter.reload(filter).map_err(|error| error.to_string())?;
        *levels = changed;
        Ok(())
    }

    /// What they are, in the form in which Envoy tells its own.
    pub(crate) fn show(&self) -> String {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = "active loggers:\n".to_owned();
        for (index, (name, _)) in PARTS.iter().enumerate() {
            let level = levels.parts.get(&index).map_or(&*levels.all, |level| *level);
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name}: {level}");
        }
        text
    }
}

impl Levels {
    fn set(&mut self, text: &str) -> Result<(), String> {
        if text.contains('=') {
            (self.all, self.parts) = (text.to_owned(), BTreeMap::new());
            return Ok(());
        }
        for word in text.split(',') {
            let Some((name, word)) = word.split_once(':') else {
                (self.all, self.parts) = (level(word)?.to_owned(), BTreeMap::new());
                continue;
            };
            let named = PARTS.iter().position(|(part, _)| *part == name);
            let part = named.ok_or_else(|| {
                let names: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
                format!("there is no logger {name:?}; there are: {}", names.join(", "))
            })?;
            self.parts.insert(part, level(word)?);
        }
        Ok(())
    }

    fn directives(&self) -> String {
        let parts = self.parts.iter().filter_map(|(index, level)| {
            let (_, module) = PARTS.get(*index)?;
            Some(format!(",{module}={level}"))
        });
        format!("{}{}", self.all, parts.collect::<String>())
    }
}

/// A level by the words of Rust's logs and of Envoy's.
fn level(word: &str) -> Result<&'static str, String> {
    Ok(match word {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "critical" => "error",
        "off" | "none" => "off",
        _ => {
            return Err(format!(
                "there is no level {word:?}; there are: trace, debug, info, warning, error, off"
            ));
        }
    })
}

/// Loggers: the names of the parts of a proxy that log anything, and their modules.
const PARTS: &[(&str, &str)] = &[
    ("admin", "ironmesh_proxy::admin"),
    ("agent", "ironmesh_proxy::agent_channel"),
    ("certificates", "ironmesh_proxy::certificates"),
    ("connect", "ironmesh_proxy::connect"),
    ("detect", "ironmesh_proxy::detect"),
    ("edge", "ironmesh_proxy::edge"),
    ("http", "ironmesh_proxy::http"),
    ("main", "ironmesh_proxy::run"),
    ("opaque", "ironmesh_proxy::opaque"),
    ("sockets", "ironmesh_proxy::sockets"),
    ("subscriptions", "ironmesh_proxy::subscriptions"),
    ("wire", "ironmesh_wire"),
    ("worker", "ironmesh_proxy::worker"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The layer must live for the handle to work.
    fn log() -> (LogLevel, reload::Layer<EnvFilter, Registry>) {
        LogLevel::over(EnvFilter::new("info"))
    }

    fn of(log: &LogLevel, part: &str) -> String {
        let shown = log.show();
        let line = shown.lines().find_map(|line| line.trim().strip_prefix(&format!("{part}: ")));
        line.unwrap_or_else(|| panic!("{part} in {shown}")).to_owned()
    }

    #[test]
    fn levels_are_set_for_all_or_for_a_part_and_reset() {
        let (log, _layer) = log();
        assert_eq!((of(&log, "http"), of(&log, "wire")), ("info".into(), "info".into()));
        log.set("http:debug,wire:warning").unwrap();
        assert_eq!((of(&log, "http"), of(&log, "wire")), ("debug".into(), "warn".into()));
        assert_eq!(of(&log, "edge"), "info");
        let filter = log.filter.with_current(ToString::to_string).unwrap();
        assert!(filter.contains("ironmesh_proxy::http=debug"), "{filter}");
        log.set("trace").unwrap();
        assert_eq!((of(&log, "http"), of(&log, "edge")), ("trace".into(), "trace".into()));
        log.set("ironmesh_proxy=debug,info").unwrap();
        assert_eq!(of(&log, "http"), "ironmesh_proxy=debug,info");
        log.reset().unwrap();
        assert_eq!((of(&log, "http"), of(&log, "edge")), ("info".into(), "info".into()));
    }

    #[test]
    fn a_wrong_word_changes_nothing() {
        let (log, _layer) = log();
        log.set("http:debug").unwrap();
        let before = log.show();
        for wrong in ["loud", "", "wire:trace,https:debug", "http:", "a=b=c", "wire:trace,x"] {
            assert!(log.set(wrong).is_err(), "{wrong}");
            assert_eq!(log.show(), before, "{wrong}");
        }
        assert!(log.set("htp:debug").unwrap_err().contains("there are: admin, agent"));
    }

    /// The names stand for modules that there are, with something to say.
    #[test]
    fn each_logger_is_a_module() {
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        for (name, module) in PARTS {
            let Some(path) = module.strip_prefix("ironmesh_proxy::") else { continue };
            let file = format!("{sources}/{path}.rs");
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains("tracing::"), "{name}: {file}");
        }
    }
}
