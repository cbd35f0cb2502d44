//! Golden tests of translation, and the manifests of the workshops.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly and say why")]

mod admission;
mod analyzers;
mod golden;
mod old_dialects;
mod oracle;
mod orders;
mod workshops;
