//! Images from registries, by the OCI distribution specification 1.1 (`/v2/`).
//!
//! Registries are spoken with by HTTPS, those on loopback by plain HTTP unless they have certificates of
//! their own ([`trust`]). Whatever they send is bounded
//! before it is kept: documents and tokens by limits, layers by the size that their manifest says; and
//! everything is what its digest says, or refused.

mod trust;

use std::fs::File;
use std::io::{Seek, Write};
use std::time::Duration;

use http_auth::parser::ChallengeParser;
use ironmesh_model::limits::ImageLimits;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::credentials::{self, Credentials, Machine, Secret};
use crate::digest::{Digest, Hasher};
use crate::error::ImageError;
use crate::import::{Blob, Import, Origin, chain_id, check, check_layers};
use crate::manifest::{ConfigFile, Descriptor, Document};
use crate::name::{ImageName, is_loopback};
use crate::store::{Image, Store, Work};
use trust::Trust;

/// What is pulled, and as whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pull {
    /// The image.
    pub name: ImageName,
    /// Texts of the form of Docker's `config.json`, before the user's own.
    pub secrets: Vec<String>,
    /// What it may be.
    pub limits: ImageLimits,
}

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What it is.
    pub image: Image,
    /// Bytes that came for it.
    pub downloaded: u64,
    /// Devices of its layers, which are left out: containers have those of `/dev`.
    pub devices_left_out: u64,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which layer, from 1, of those that are missing.
    pub layer: usize,
    /// How many are missing.
    pub layers: usize,
    /// Bytes that came of it.
    pub bytes: u64,
    /// Bytes that it has.
    pub size: u64,
}

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry does not answer, or breaks off.
    #[error("registry {registry} does not answer: {why}")]
    Silent {
        /// Its host.
        registry: String,
        /// Why.
        why: String,
    },
    /// The registry has no such image.
    #[error("registry {registry} has no {name}")]
    NotFound {
        /// Its host.
        registry: String,
        /// The image.
        name: String,
    },
    /// The registry does not give it to this user.
    #[error("registry {registry} refuses: {why}")]
    Refused {
        /// Its host.
        registry: String,
        /// Why, with a remedy.
        why: String,
    },
    /// What is known of the registry or its user cannot be used.
    #[error("registry {registry} is not asked: {why}")]
    NotAsked {
        /// Its host.
        registry: String,
        /// Why.
        why: String,
    },
    /// What it sent is not taken.
    #[error("registry {registry}: {error}")]
    Image {
        /// Its host.
        registry: String,
        /// Why; as it is shown with the registry, it is no source to be shown once more.
        error: ImageError,
    },
}

impl PullError {
    /// Whether the registry did not answer at all.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }

    /// Whether the image itself is not taken, so that loading it would fail likewise.
    #[must_use]
    pub fn is_of_image(&self) -> bool {
        let Self::Image { error, .. } = self else { return false };
        !matches!(error, ImageError::File { .. } | ImageError::Io(_))
    }
}

/// Pulls an image into the store; blocks. What is in the store is not asked for again.
///
/// # Errors
///
/// Why it cannot be had.
pub fn pull(
    store: &Store,
    pull: &Pull,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, PullError> {
    pull_from(&Machine::this(), store, pull, progress)
}

/// The same, by what a machine says of registries.
fn pull_from(
    machine: &Machine,
    store: &Store,
    pull: &Pull,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pulled, PullError> {
    let registry = pull.name.registry().to_owned();
    let source = |error| PullError::Image { registry: registry.clone(), error };
    let work = store.begin().map_err(source)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| source(error.into()))?;
    let limit = pull.limits.pull_timeout;
    let parts = runtime.block_on(async {
        let credentials = credentials::find(&pull.name, &pull.secrets, machine, &pull.limits).await;
        let credentials =
            credentials.map_err(|why| PullError::NotAsked { registry: registry.clone(), why })?;
        let mut session = Session::new(pull, machine, credentials)?;
        let parts = session.parts(store, &work, progress);
        tokio::time::timeout(limit, parts).await.unwrap_or_else(|_| {
            let why = format!("it is not there within {limit:?} (limits.images.pull_timeout)");
            Err(PullError::Silent { registry: registry.clone(), why })
        })
    })?;
    let Parts { digests, config, mut layers, downloaded, _held } = parts;
    let mut names: Vec<ImageName> =
        digests.iter().map(|digest| pull.name.with_digest(digest.clone())).collect();
    names.push(pull.name.clone());
    let origin = Origin { names: &names, digest: digests.last(), is_loaded: false };
    let import = Import { store, limits: &pull.limits, work: &work };
    let imported = import.take(&config, layers.len(), origin, |number| {
        let missing = || ImageError::Invalid(format!("layer {} was not read", number + 1));
        let (content, digest) = layers[number].take().ok_or_else(missing)?;
        Ok(Blob { content: Box::new(content), digest: Some(digest) })
    });
    let imported = imported.map_err(source)?;
    let devices_left_out = imported.devices_left_out;
    Ok(Pulled { image: imported.image, downloaded, devices_left_out })
}

/// The parts of an image as they came.
struct Parts {
    /// Of the documents that lead to it: of an index first, of its manifest last.
    digests: Vec<Digest>,
    config: Vec<u8>,
    /// The content of each layer, and its digest; none of those in the store.
    layers: Vec<Option<(File, Digest)>>,
    downloaded: u64,
    /// The layers in the store, which stay until the image is there.
    _held: Vec<File>,
}

/// What is spoken with a registry about one image.
struct Session<'a> {
    pull: &'a Pull,
    client: Client,
    base: String,
    credentials: Option<Credentials>,
    /// The `Authorization` of requests, once it was asked for.
    authorization: Option<String>,
}

impl<'a> Session<'a> {
    fn new(
        pull: &'a Pull,
        machine: &Machine,
        credentials: Option<Credentials>,
    ) -> Result<Self, PullError> {
        let registry = || pull.name.registry().to_owned();
        let trust = Trust::of(machine, &pull.name)
            .map_err(|why| PullError::NotAsked { registry: registry(), why })?;
        let timeout: Duration = pull.limits.answer_timeout;
        let client = Client::builder()
            .user_agent(concat!("ironmesh/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .redirect(Policy::custom(follow));
        // What is on this machine is never behind a proxy.
        let client = if pull.name.is_on_loopback() { client.no_proxy() } else { client };
        // On loopback there is TLS where somebody has said by whose certificates.
        let is_plain = pull.name.is_on_loopback() && trust.is_nothing();
        let client = trust.given_to(client).build().map_err(|error| {
            let why =
                std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
            PullError::NotAsked { registry: registry(), why }
        })?;
        let host = match pull.name.registry() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let scheme = if is_plain { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{}", pull.name.repository());
        Ok(Self { pull, client, base, credentials, authorization: None })
    }

    async fn parts(
        &mut self,
        store: &Store,
        work: &Work,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Parts, PullError> {
        let limits = &self.pull.limits;
        let wanted = self.pull.name.digest();
        let reference = wanted.map(ToString::to_string);
        let reference = reference.or_else(|| self.pull.name.tag().map(str::to_owned));
        let (mut digests, mut document) = self
            .manifest(&reference.unwrap_or_default(), wanted)
            .await
            .map(|(d, m)| (vec![d], m))?;
        let chosen = document.for_this_machine().map_err(|error| self.not_taken(error))?.cloned();
        if let Some(chosen) = chosen {
            let (digest, manifest) =
                self.manifest(&chosen.digest.to_string(), Some(&chosen.digest)).await?;
            digests.push(digest);
            document = manifest;
        }
        let no_image = || ImageError::Invalid("it is no image".to_owned());
        let described = document.config.as_ref().ok_or_else(no_image);
        let described = described.map_err(|error| self.not_taken(error))?;
        check_layers(document.layers.len(), limits).map_err(|error| self.not_taken(error))?;
        let config = self.small_blob(described).await?;
        let parsed = ConfigFile::parse(&config, document.layers.len());
        let parsed = parsed.map_err(|error| self.not_taken(error))?;
        let (mut layers, mut held, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut below = None;
        for (number, diff) in parsed.rootfs.diff_ids.iter().enumerate() {
            let chain = chain_id(below.as_ref(), diff);
            match store.hold_layer(&chain).map_err(|error| self.not_taken(error))? {
                Some(layer) => held.push(layer),
                None => missing.push(number),
            }
            layers.push(None);
            below = Some(chain);
        }
        let downloaded = self.check_sizes(&document.layers, &missing)?;
        for (at, number) in missing.iter().enumerate() {
            let descriptor = &document.layers[*number];
            let mut file = work.file(&format!("blob-{number}")).map_err(|e| self.not_taken(e))?;
            let mut tell = |bytes| {
                let (layer, layers) = (at + 1, missing.len());
                progress(Progress { layer, layers, bytes, size: descriptor.size });
            };
            self.blob(descriptor, &mut file, &mut tell).await?;
            file.rewind().map_err(|error| self.not_taken(error.into()))?;
            layers[*number] = Some((file, descriptor.digest.clone()));
        }
        Ok(Parts { digests, config, layers, downloaded, _held: held })
    }

    /// The bytes of the layers that are missing, unless they are more than an image may have.
    fn check_sizes(&self, layers: &[Descriptor], missing: &[usize]) -> Result<u64, PullError> {
        let most = self.pull.limits.unpacked_bytes_max;
        let mut sizes = missing.iter().map(|number| layers[*number].size);
        let sum = sizes.try_fold(0_u64, u64::checked_add);
        sum.filter(|sum| *sum <= most).ok_or_else(|| {
            let limit = "unpacked_bytes_max";
            self.not_taken(ImageError::TooMuch { what: "bytes in its layers", most, limit })
        })
    }

    /// A manifest or index, with its digest.
    async fn manifest(
        &mut self,
        reference: &str,
        wanted: Option<&Digest>,
    ) -> Result<(Digest, Document), PullError> {
        let path = format!("manifests/{reference}");
        let response = self.get(&path).await?;
        let most = self.pull.limits.manifest_bytes_max;
        let bytes = self.read(response, most, "manifest_bytes_max").await?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = wanted {
            check(digest.clone(), wanted, "its manifest".to_owned())
                .map_err(|error| self.not_taken(error))?;
        }
        let document = Document::parse(&bytes).map_err(|error| self.not_taken(error))?;
        Ok((digest, document))
    }

    /// A document that is a blob.
    async fn small_blob(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        let response = self.get(&format!("blobs/{}", descriptor.digest)).await?;
        let most = self.pull.limits.manifest_bytes_max;
        let bytes = self.read(response, most, "manifest_bytes_max").await?;
        check(Digest::of(&bytes), &descriptor.digest, "its configuration".to_owned())
            .map_err(|error| self.not_taken(error))?;
        Ok(bytes)
    }

    /// Writes a layer as it comes: no byte more than its manifest says.
    async fn blob(
        &mut self,
        descriptor: &Descriptor,
        file: &mut File,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), PullError> {
        let mut response = self.get(&format!("blobs/{}", descriptor.digest)).await?;
        let mut hasher = Hasher::default();
        let mut bytes = 0_u64;
        while let Some(chunk) = response.chunk().await.map_err(|error| self.silent(&error))? {
            bytes += chunk.len() as u64;
            if bytes > descriptor.size {
                let text =
                    format!("a layer is longer than the {} bytes it is to have", descriptor.size);
                return Err(self.not_taken(ImageError::Invalid(text)));
            }
            hasher.update(&chunk);
            file.write_all(&chunk).map_err(|error| self.not_taken(error.into()))?;
            tell(bytes);
        }
        check(hasher.finish(), &descriptor.digest, "a layer".to_owned())
            .map_err(|error| self.not_taken(error))
    }

    /// Asks for something of the image, with an authorization if the registry wants one.
    async fn get(&mut self, path: &str) -> Result<Response, PullError> {
        let url = format!("{}/{path}", self.base);
        let mut response = self.send(&url).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenges: Vec<String> = response
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect();
            self.authorize(&challenges).await?;
            response = self.send(&url).await?;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let registry = self.pull.name.registry().to_owned();
        let most = self.pull.limits.answer_bytes_max;
        let said = self.read(response, most, "answer_bytes_max").await.unwrap_or_default();
        let said = reason(&said);
        Err(match status {
            StatusCode::NOT_FOUND => {
                PullError::NotFound { registry, name: self.pull.name.to_string() }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let remedy = match &self.credentials {
                    Some(credentials) => format!("as user {:?}", credentials.user),
                    None => "no credentials are known: `docker login`, or imagePullSecrets of the \
                             pod"
                    .to_owned(),
                };
                PullError::Refused { registry, why: format!("{status}{said} ({remedy})") }
            }
            _ => PullError::Refused { registry, why: format!("{status}{said}") },
        })
    }

    async fn send(&self, url: &str) -> Result<Response, PullError> {
        let mut request = self.client.get(url).header(ACCEPT, MEDIA_TYPES);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| self.silent(&error))
    }

    /// Gets what the registry wants as an authorization: a token, or the user's name and password.
    async fn authorize(&mut self, challenges: &[String]) -> Result<(), PullError> {
        let parsed = challenges.iter().flat_map(|text| ChallengeParser::new(text).flatten());
        let mut basic = false;
        for challenge in parsed.collect::<Vec<_>>() {
            basic |= challenge.scheme.eq_ignore_ascii_case("basic");
            if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                continue;
            }
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let realm = parameter("realm").unwrap_or_default();
            let token = self.token(&realm, parameter("service").as_deref()).await?;
            self.authorization = Some(format!("Bearer {token}"));
            return Ok(());
        }
        let own = self.credentials.as_ref().and_then(basic_authorization);
        if basic && own.is_some() {
            self.authorization = own;
        }
        Ok(())
    }

    /// A token for pulling the image, by the specification of Docker's tokens.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, PullError> {
        let refused = |why: String| PullError::Refused {
            registry: self.pull.name.registry().to_owned(),
            why,
        };
        let mut url = Url::parse(realm)
            .map_err(|_| refused(format!("it wants a token from {realm:?}, which is no URL")))?;
        check_url(&url, self.pull.name.is_on_loopback()).map_err(&refused)?;
        let scope = format!("repository:{}:pull", self.pull.name.repository());
        let service = service.map(|service| ("service", service));
        let asked = [("scope", scope.as_str())].into_iter().chain(service);
        let mut request = match self.credentials.as_ref().map(|own| &own.secret) {
            Some(Secret::IdentityToken(token)) => {
                // OAuth 2 (RFC 6749, section 6), as Docker's specification has it.
                let own = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "ironmesh"),
                    ("refresh_token", token),
                ];
                let mut form = Url::parse("form:").map_err(|_| refused(String::new()))?;
                form.query_pairs_mut().extend_pairs(own.into_iter().chain(asked));
                let body = form.query().unwrap_or_default().to_owned();
                self.client.post(url).header(CONTENT_TYPE, FORM).body(body)
            }
            _ => {
                url.query_pairs_mut().extend_pairs(asked);
                self.client.get(url)
            }
        };
        if let Some(own) = self.credentials.as_ref().and_then(basic_authorization) {
            request = request.header(AUTHORIZATION, own);
        }
        let response = request.send().await.map_err(|error| self.silent(&error))?;
        let status = response.status();
        let most = self.pull.limits.answer_bytes_max;
        let bytes = self.read(response, most, "answer_bytes_max").await?;
        if !status.is_success() {
            return Err(refused(format!("no token: {status}{}", reason(&bytes))));
        }
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|error| refused(format!("its token cannot be read: {error}")))?;
        token.token.or(token.access_token).ok_or_else(|| refused("its token is empty".to_owned()))
    }

    /// A whole answer of so many bytes at most.
    async fn read(
        &self,
        mut response: Response,
        most: usize,
        limit: &'static str,
    ) -> Result<Vec<u8>, PullError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.silent(&error))? {
            if bytes.len() + chunk.len() > most {
                let what = "bytes in a document or answer";
                let most = most as u64;
                return Err(self.not_taken(ImageError::TooMuch { what, most, limit }));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn not_taken(&self, error: ImageError) -> PullError {
        PullError::Image { registry: self.pull.name.registry().to_owned(), error }
    }

    /// What becomes of a request that has no answer. One that leads where it must not is refused.
    fn silent(&self, error: &reqwest::Error) -> PullError {
        let registry = self.pull.name.registry().to_owned();
        let causes =
            std::iter::successors(std::error::Error::source(error), |error| error.source());
        let why = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
        match error.is_redirect() {
            true => PullError::Refused { registry, why },
            false => PullError::Silent { registry, why },
        }
    }
}

/// An answer of a server of tokens.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Name and password, if there is one.
fn basic_authorization(credentials: &Credentials) -> Option<String> {
    use base64::Engine as _;
    let Secret::Password(password) = &credentials.secret else { return None };
    let pair = format!("{}:{password}", credentials.user);
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// What a registry says of a failure: the first message of its errors.
fn reason(answer: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let message = answer["errors"][0]["message"].as_str().filter(|text| !text.is_empty());
    let shown =
        |text: &str| text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect::<String>();
    message.map(|text| format!(": {}", shown(text))).unwrap_or_default()
}

/// Registries send layers from elsewhere. The authorization does not go along to another host.
fn follow(attempt: Attempt<'_>) -> Action {
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
    }
    let from_loopback = attempt.previous().iter().all(is_url_on_loopback);
    match check_url(attempt.url(), from_loopback) {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(format!("it redirects: {why}")),
    }
}

/// Plain HTTP is spoken on loopback alone; and what is elsewhere does not lead there.
fn check_url(url: &Url, from_loopback: bool) -> Result<(), String> {
    match (url.scheme(), is_url_on_loopback(url)) {
        (_, true) if !from_loopback => {
            Err(format!("{url} is on this machine, where no other may lead"))
        }
        ("https", _) | ("http", true) => Ok(()),
        ("http", false) => Err(format!("{url} is plain http, which is for this machine alone")),
        (scheme, _) => Err(format!("{scheme} is neither https nor http")),
    }
}

fn is_url_on_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback)
}

const MEDIA_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
/// What a form is sent as.
const FORM: &str = "application/x-www-form-urlencoded";
const REDIRECTS_MAX: usize = 5;
/// Characters of a registry's message that are shown.
const SHOWN_CHARS: usize = 200;

#[cfg(test)]
mod tests;
