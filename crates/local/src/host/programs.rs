//! Programs that are built on this machine when an image first needs them: MongoDB's protocol is
//! served by FerretDB, from the Go module proxy.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::fs;
use tokio::process::Command;

/// File of the MongoDB server among the programs; its version is part of the name.
pub(crate) const MONGODB: &str = "mongodb-by-ferretdb-1.24.2";

/// Where programs that were built are kept: `ironmesh/programs` in the user's cache folder.
pub(super) fn folder() -> PathBuf {
    cache().join("programs")
}

/// Where the user's images are kept: `ironmesh/images` in the user's cache folder.
#[must_use]
pub fn image_store() -> PathBuf {
    cache().join("images")
}

/// `ironmesh` in the user's cache folder.
fn cache() -> PathBuf {
    let given = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let cache = given("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(given("HOME")?).join(".cache")));
    cache.unwrap_or_else(|| PathBuf::from("/var/cache")).join("ironmesh")
}

/// Builds the MongoDB server, unless it is there. The checksums of all modules are part of this
/// binary.
pub(super) async fn build_mongodb(folder: &Path, limit: Duration) -> Result<(), String> {
    let program = folder.join(MONGODB);
    if fs::metadata(&program).await.is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    // Meshes that build at the same time do not share it; the last one's program stays.
    let work = folder.join(format!("build-{}", std::process::id()));
    let built = tokio::time::timeout(limit, build(&work, &program)).await;
    // What stays behind is written anew by the next.
    let _ = fs::remove_dir_all(&work).await;
    match built {
        Ok(result) => result,
        Err(_) => Err(format!(
            "it was not built within {limit:?} (limits.platform.program_build_timeout)"
        )),
    }
}

async fn build(work: &Path, program: &Path) -> Result<(), String> {
    let write = async {
        fs::create_dir_all(work).await?;
        for (name, text) in SOURCE {
            fs::write(work.join(name), text).await?;
        }
        io::Result::Ok(())
    };
    write.await.map_err(|error| format!("{}: {error}", work.display()))?;
    // Go does not outlive the mesh.
    let built = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "go",
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            "it",
            ".",
        ])
        .current_dir(work)
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("setpriv: {error}"))?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return Err(format!("go build: {}", last.unwrap_or("it failed without a word")));
    }
    let moved = fs::rename(work.join("it"), program).await;
    moved.map_err(|error| format!("{}: {error}", program.display()))
}

/// A program of one file around FerretDB, which is a library.
const SOURCE: [(&str, &str); 3] = [
    ("main.go", include_str!("../../assets/mongodb/main.go.txt")),
    ("go.mod", include_str!("../../assets/mongodb/go.mod.txt")),
    ("go.sum", include_str!("../../assets/mongodb/go.sum.txt")),
];
