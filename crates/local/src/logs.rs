//! The logs of containers and of the mesh's own processes, as files on the host.
//!
//! Whoever is logged writes into a pipe, which a thread of the agent reads ([`collector`]): so no
//! application owns its log or can fill the disk, and none learns that the disk is full.

mod collector;
mod file;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use self::collector::Order;
pub(crate) use self::file::LogFile;
use ironmesh_fds as fds;

/// The logs of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    directory: PathBuf,
    orders: mpsc::UnboundedSender<Order>,
}

/// The write end of a log's pipe, until the process that writes has been started.
pub(crate) type Output = OwnedFd;

impl Logs {
    /// Logs under this folder, each of at most `bytes_max` and as much before it; those of the run
    /// before are as large again.
    ///
    /// # Errors
    ///
    /// If the machine has no thread left.
    pub(crate) fn new(directory: PathBuf, bytes_max: u64) -> io::Result<Self> {
        Ok(Self { directory, orders: collector::start(bytes_max)? })
    }

    /// The folder of all.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of a pod.
    pub(crate) fn pod(&self, namespace: &str, pod: &str) -> PathBuf {
        self.directory.join(format!("{namespace}_{pod}"))
    }

    /// The log of a container.
    pub(crate) fn container(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.pod(namespace, pod).join(format!("{container}.log"))
    }

    /// The log of one of the mesh's own processes, such as `control`.
    pub(crate) fn process(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Begins the log of a process that is about to start. With `anew` the log of its run before
    /// becomes `NAME.previous.log`; otherwise the log goes on.
    ///
    /// # Errors
    ///
    /// If no pipe can be made. That the log cannot be written is none: its lines are lost.
    pub(crate) async fn begin(&self, path: PathBuf, anew: bool) -> io::Result<Output> {
        let (output, input) = fds::pipe()?;
        let (done, is_done) = oneshot::channel();
        self.tell(Order::Begin { path, anew, output, done });
        // If the thread is gone the process runs without a log.
        let _ = is_done.await;
        Ok(input)
    }

    /// Brings all to its file that a process has written which has ended.
    pub(crate) async fn end(&self, path: PathBuf) {
        let (done, is_done) = oneshot::channel();
        self.tell(Order::End { path, done });
        let _ = is_done.await;
    }

    /// Removes the logs of a pod that was deleted.
    pub(crate) fn remove(&self, namespace: &str, pod: &str) {
        self.tell(Order::Remove { folder: self.pod(namespace, pod) });
    }

    fn tell(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that writes logs is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    fn logs(bytes_max: u64) -> (tempfile::TempDir, Logs) {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().to_owned(), bytes_max).unwrap();
        (folder, logs)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn a_restarted_container_begins_a_new_log_and_keeps_the_one_before() {
        let (_folder, logs) = logs(1000);
        let path = logs.container("n", "p", "c");
        let mut first = File::from(logs.begin(path.clone(), true).await.unwrap());
        first.write_all(b"one").unwrap();
        // Somebody may still hold the pipe of the run before: it is nobody's log any more.
        let mut second = File::from(logs.begin(path.clone(), true).await.unwrap());
        second.write_all(b"two").unwrap();
        logs.end(path.clone()).await;
        assert_eq!(text(&path), "two");
        assert_eq!(text(&path.with_extension("previous.log")), "one");
        logs.remove("n", "p");
        logs.end(path).await;
        assert!(!logs.pod("n", "p").exists());
    }

    #[tokio::test]
    async fn what_a_log_outgrew_is_kept_over_a_restart_and_goes_with_it() {
        let (_folder, logs) = logs(1_000);
        let path = logs.container("n", "p", "c");
        let run = async |lines: u32| {
            let mut output = File::from(logs.begin(path.clone(), true).await.unwrap());
            for number in 0..lines {
                writeln!(output, "line {number} of {lines}").unwrap();
            }
            drop(output);
            logs.end(path.clone()).await;
        };
        run(100).await;
        assert!(path.with_extension("log.1").exists(), "it outgrew one file");
        assert!(path.with_extension("log.1.times").exists());
        run(1).await;
        let previous = path.with_extension("previous.log");
        let older = text(&previous.with_extension("log.1"));
        assert!(format!("{older}{}", text(&previous)).ends_with("line 99 of 100\n"));
        assert!(older.lines().count() > 10 && previous.with_extension("log.1.times").exists());
        assert!(!path.with_extension("log.1").exists(), "the new one has outgrown nothing");
        // The run before that is forgotten, all of it.
        run(1).await;
        assert_eq!(text(&previous), "line 0 of 1\n");
        assert!(!previous.with_extension("log.1").exists());
        logs.remove("n", "p");
        logs.end(path).await;
        assert!(!logs.pod("n", "p").exists());
    }

    #[tokio::test]
    async fn an_application_cannot_make_its_log_grow_beyond_the_limit() {
        let (_folder, logs) = logs(10_000);
        let path = logs.container("n", "p", "c");
        let mut output = File::from(logs.begin(path.clone(), true).await.unwrap());
        // It has no file to seek in or to cut.
        assert!(output.set_len(1 << 40).is_err());
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for _ in 0..20_000 {
            output.write_all(&line).unwrap();
        }
        logs.end(path.clone()).await;
        let sizes = [&path, &path.with_extension("log.1")].map(|p| fs::metadata(p).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= 10_000), "{sizes:?}");
        assert!(text(&path).lines().all(|line| line.len() == 99));
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_is_no_error_for_who_writes() {
        let (folder, logs) = logs(1000);
        fs::write(folder.path().join("n_p"), "in the way of the folder").unwrap();
        let path = logs.container("n", "p", "c");
        let mut output = File::from(logs.begin(path.clone(), true).await.unwrap());
        for _ in 0..10_000 {
            output.write_all(&[b'x'; 100]).unwrap();
        }
        logs.end(path).await;
    }
}
