//! The certificate of a workload: asked for at the start, and again long before it expires.
//! Connections that are open keep the one they were made with.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_identity::workload::{CredentialsError, renew_at};
use ironmesh_identity::{Clock, Credentials, KeyPair, SystemClock, Timestamp};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_wire::Client;
use ironmesh_wire::client::SignError;
use tokio::time::{error::Elapsed, sleep, timeout};

use crate::random::Random;
use crate::workload::LocalWorkload;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum RotationError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the control plane has not answered within sign_timeout")]
    Silent(#[from] Elapsed),
    #[error("key generation was interrupted: {0}")]
    Interrupted(#[from] io::Error),
}

/// Keeps a workload's certificate valid for as long as it is polled.
pub(crate) async fn rotate(workload: &LocalWorkload, limits: &ProxyLimits, client: &Client) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let seed = Random::new().next();
    let mut pause = limits.sign_retry_pause_min;
    loop {
        match next(client, clock.clone(), limits).await {
            Ok(credentials) => {
                let renew = renew_at(clock.now(), credentials.not_after(), seed);
                tracing::info!(
                    identity = %credentials.identity(),
                    serial = credentials.serial(),
                    "certificate received"
                );
                workload.credentials.store(Some(credentials));
                workload.views.touch();
                pause = limits.sign_retry_pause_min;
                sleep_until(&*clock, renew).await;
            }
            Err(error) => {
                tracing::warn!(%error, "no certificate; trying again");
                sleep(pause).await;
                pause = (pause * 2).min(limits.sign_retry_pause_max);
            }
        }
    }
}

async fn next(
    client: &Client,
    clock: Arc<dyn Clock>,
    limits: &ProxyLimits,
) -> Result<Arc<Credentials>, RotationError> {
    let key = KeyPair::generate()?;
    let certificate = timeout(limits.sign_timeout, client.sign(key.csr()?)).await??;
    let (chain, anchors) = (&certificate.chain, &certificate.anchors_pem);
    Ok(Credentials::with_limits(&key, chain, anchors, clock, limits)?)
}

/// Looks at the wall clock again and again: a machine may sleep, and its clock may be set.
async fn sleep_until(clock: &dyn Clock, end: Timestamp) {
    loop {
        let left = end.since(clock.now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// How often the wall clock is looked at.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
