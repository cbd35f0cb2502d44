//! `cargo xtask dist`: the programs as they are given to people, small, with their debug lines in a
//! file beside each.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// Builds the programs and puts them into `target/dist`. Debuggers and `perf` find `NAME.debug` there
/// by the link in the program. `--no-build` takes the release build that is there.
///
/// # Errors
///
/// If `cargo` or `objcopy` (of binutils) fails, or a program is larger than it may be.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), Into::into);
    if !args.iter().any(|arg| arg == "--no-build") {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--release"]).current_dir(root).status()?;
        ensure!(built.success(), "cargo build --release failed");
    }
    let (release, dist) = (target.join("release"), target.join("dist"));
    std::fs::create_dir_all(&dist)?;
    for (name, bytes_max) in [("ironmesh", PROGRAM_BYTES_MAX), ("ironmesh-samples", u64::MAX)] {
        let (from, to) = (release.join(name), dist.join(name));
        let debug = format!("{name}.debug");
        objcopy(&dist, &["--only-keep-debug"], &[&from, Path::new(&debug)])?;
        let link = format!("--add-gnu-debuglink={debug}");
        objcopy(&dist, &["--strip-all", &link], &[&from, &to])?;
        let size = std::fs::metadata(&to)?.len();
        println!("{}: {:.1} MB", to.display(), size as f64 / 1e6);
        ensure!(size <= bytes_max, "{name} has {size} bytes; at most {bytes_max}");
    }
    Ok(())
}

fn objcopy(folder: &Path, options: &[&str], files: &[&Path]) -> anyhow::Result<()> {
    let status = Command::new("objcopy").args(options).args(files).current_dir(folder).status();
    let status = status.context("objcopy is not here: install binutils")?;
    ensure!(status.success(), "objcopy {options:?} failed");
    Ok(())
}

/// Bytes of the program that people download.
const PROGRAM_BYTES_MAX: u64 = 30_000_000;
