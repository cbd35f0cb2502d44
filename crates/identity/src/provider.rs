//! The cryptography of the mesh, chosen here and never taken from a process-wide default.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};

/// The provider. AES-128-GCM comes first: full handshakes cost a tenth less than with AES-256-GCM and
/// resumptions a third less (bench of the TLS primitives), and both are secure. Key exchange is
/// hybrid post-quantum if the peer supports it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    // Immutable and free of secrets, so sharing it is no global state.
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    PROVIDER.clone()
}

/// The only version between members of a mesh.
pub(crate) const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
