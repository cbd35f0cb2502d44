//! TLS towards endpoints as their policy says it. What it is made from is read from files of the proxy,
//! and read again from time to time, so that certificates can be replaced.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ironmesh_identity::{GivenFiles, GivenTls, SystemClock};
use ironmesh_model::policy::ClientTls;
use ironmesh_model::{Name, Reason};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use crate::failure::{Failure, Stage};
use crate::stream::Stream;
use crate::tls::{self, Inside};
use crate::worker::Worker;

/// What was made of policies, for all workers.
#[derive(Debug, Default)]
pub(crate) struct GivenTlsCache(Mutex<HashMap<(Arc<ClientTls>, Inside), Made>>);

#[derive(Clone, Debug)]
struct Made {
    tls: GivenTls,
    files: GivenFiles,
    at: Instant,
}

/// Takes the client's part of a handshake with an endpoint, as its policy says.
pub(crate) async fn connect(
    worker: &Worker,
    given: &Arc<ClientTls>,
    over: Stream,
    inside: Inside,
    longest: Duration,
) -> Result<Stream, Failure> {
    let handshake = async {
        let tls = made(worker, given, inside).await?;
        tls.connect(over).await
    };
    let connected = timeout(longest, handshake).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let connected = connected.map_err(|error| {
        let server = given.sni.as_deref().unwrap_or_default();
        tracing::debug!(%error, server, "TLS handshake failed");
        let untrusted = tls::is_untrusted(&error);
        let reason = if untrusted { Reason::PeerUntrusted } else { Reason::ConnectFailed };
        Failure::upstream(reason, Stage::NotSent)
    })?;
    Ok(Stream::tls(TlsStream::Client(connected)))
}

/// The TLS of a policy: that which was made before, unless files have changed.
async fn made(worker: &Worker, given: &Arc<ClientTls>, inside: Inside) -> io::Result<GivenTls> {
    let cache = &worker.process.given_tls;
    let key = (given.clone(), inside);
    let before = cache.get(&key);
    let uses_files = files(given).iter().any(Option::is_some);
    if let Some(Made { tls, at, .. }) = &before
        && (!uses_files || at.elapsed() < LOOK_INTERVAL)
    {
        return Ok(tls.clone());
    }
    let files = read(given).await?;
    let tls = match before {
        // With it stay the sessions that servers know.
        Some(made) if made.files == files => made.tls,
        _ => {
            let clock = Arc::new(SystemClock);
            let made = GivenTls::new(given, &files, alpn(inside), clock);
            made.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?
        }
    };
    let made = Made { tls: tls.clone(), files, at: Instant::now() };
    cache.put(key, made, worker.process.limits.tls_peers_max);
    Ok(tls)
}

impl GivenTlsCache {
    fn get(&self, key: &(Arc<ClientTls>, Inside)) -> Option<Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: (Arc<ClientTls>, Inside), made: Made, most: usize) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= most && !cache.contains_key(&key) {
            // Each is made again when needed; only its sessions are lost.
            cache.clear();
        }
        cache.insert(key, made);
    }
}

fn alpn(inside: Inside) -> &'static [&'static [u8]] {
    match inside {
        Inside::Http2 => &[b"h2"],
        // As Istio's proxies: what the application speaks is between it and the server.
        Inside::Http1 | Inside::Opaque => &[],
    }
}

fn files(given: &ClientTls) -> [Option<&Name>; 4] {
    let ClientTls { certificate_file, key_file, trusted_file, revoked_file, .. } = given;
    [certificate_file, key_file, trusted_file, revoked_file].map(Option::as_ref)
}

async fn read(given: &ClientTls) -> io::Result<GivenFiles> {
    if let Some(secret) = &given.credential {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let certificate = secret.certificate.as_ref();
        return Ok(GivenFiles {
            certificate: certificate.map(|own| bytes(&own.chain)),
            key: certificate.map(|own| bytes(own.key.reveal())),
            trusted: secret.trusted.as_deref().map(bytes),
            revoked: secret.revoked.as_deref().map(bytes),
        });
    }
    let [certificate, key, trusted, revoked] = files(given);
    Ok(GivenFiles {
        certificate: read_file(certificate).await?,
        key: read_file(key).await?,
        trusted: read_file(trusted).await?,
        revoked: read_file(revoked).await?,
    })
}

async fn read_file(path: Option<&Name>) -> io::Result<Option<Vec<u8>>> {
    let Some(path) = path else { return Ok(None) };
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    // It is a user's word: a device, say, is no file.
    let path = PathBuf::from(&**path);
    if !tokio::fs::metadata(&path).await.map_err(failed)?.is_file() {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(Some(bytes))
}

/// How often files are looked at, when connections are made.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes that are read of one: the authorities of a system are about 200 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
