//! Certificates of a registry of its own CA, in a folder of its name, as Docker has it:
//! `certs.d/HOST:PORT/` in the folder of `config.json` or in `/etc/docker`.
//!
//! ```text
//! ca.crt        any .crt: who signs its certificate, besides those whom the machine trusts
//! client.cert   any .cert: who we are, with its key in the .key of the same name
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};

use crate::credentials::Machine;
use crate::name::ImageName;

/// What certificates a registry has of its own.
#[derive(Debug, Default)]
pub(super) struct Trust {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Trust {
    /// Those of the registry of an image; of the first folder that has any.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or is none.
    pub(super) fn of(machine: &Machine, name: &ImageName) -> Result<Self, String> {
        let registry = name.registry();
        // The name of a host, and so of a folder.
        if registry.starts_with('.') || registry.contains('/') {
            return Ok(Self::default());
        }
        for folder in &machine.certificate_folders {
            let found = Self::in_folder(&folder.join(registry))?;
            if !found.is_nothing() {
                return Ok(found);
            }
        }
        Ok(Self::default())
    }

    fn in_folder(folder: &Path) -> Result<Self, String> {
        let at = |error: io::Error| format!("{}: {error}", folder.display());
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(at(error)),
        };
        let paths: io::Result<Vec<PathBuf>> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(at)?;
        paths.sort();
        let mut trust = Self::default();
        for path in paths {
            let wrong = |why: String| format!("{}: {why}", path.display());
            let extension = path.extension().and_then(|extension| extension.to_str());
            match extension {
                Some("crt") => {
                    let pem = fs::read(&path).map_err(|error| wrong(error.to_string()))?;
                    let roots = Certificate::from_pem_bundle(&pem);
                    let roots = roots.map_err(|error| wrong(error.to_string()))?;
                    if roots.is_empty() {
                        return Err(wrong("there is no certificate in PEM in it".to_owned()));
                    }
                    trust.roots.extend(roots);
                }
                Some("cert") => {
                    let pem = fs::read(&path).and_then(|certificate| {
                        let key = fs::read(path.with_extension("key"))?;
                        Ok([&key[..], b"\n", &certificate].concat())
                    });
                    let pem = pem.map_err(|error| wrong(format!("with its .key: {error}")))?;
                    let identity = Identity::from_pem(&pem);
                    trust.identity = Some(identity.map_err(|error| wrong(error.to_string()))?);
                }
                _ => {}
            }
        }
        Ok(trust)
    }

    /// Whether there are none.
    pub(super) fn is_nothing(&self) -> bool {
        self.roots.is_empty() && self.identity.is_none()
    }

    /// Has a client trust by them.
    pub(super) fn given_to(self, client: ClientBuilder) -> ClientBuilder {
        let client = match self.roots.is_empty() {
            true => client,
            false => client.tls_certs_merge(self.roots),
        };
        match self.identity {
            Some(identity) => client.identity(identity),
            None => client,
        }
    }
}
