//! The image of a container: what stands for it on this machine, or the real one, pulled if its policy
//! says so.

use std::rc::Rc;

use ironmesh_dialects::kubernetes::kinds::{Container, ImagePullPolicy};
use ironmesh_images::{ImageError, ImageName, Pull, Store};
use tokio::time::Instant;

use super::container::{NoImage, NotStarted};
use super::launch::is_on_machine;
use super::pod::PodState;
use crate::environment::{Holder, Objects as _};
use crate::events::EventKind;
use crate::host::programs::MONGODB;
use crate::host::pull::{Cause, Failed, Outcome};
use crate::images::{self, FERRETDB, Image, well_known};

/// The image of a container, with what it tells of that in events.
pub(super) async fn find(state: &Rc<PodState>, container: &Container) -> Result<Image, NotStarted> {
    let image = match state.node.images.mapped(&container.image) {
        Some(image) => present(state, container, image),
        None => find_unmapped(state, container).await?,
    };
    let image = image.with_args(&container.args, is_on_machine);
    Ok(image.with_ports(container.ports.iter().map(|port| port.container_port)))
}

/// What an image is, as a pod's status says it; empty for what stands for one.
pub(super) fn id(name: &str, image: &Image) -> String {
    let Some(held) = &image.real else { return String::new() };
    let image = &held.image;
    match (&image.digest, name.parse::<ImageName>()) {
        (Some(digest), Ok(name)) => name.with_digest(digest.clone()).to_string(),
        _ => image.id.to_string(),
    }
}

/// Says that an image is there.
fn present(state: &PodState, container: &Container, image: Image) -> Image {
    let message = format!("Container image \"{}\" already present on machine", container.image);
    state.event(Some(&container.name), EventKind::Normal, "Pulled", message);
    image
}

/// What an image is that no mapping is for: what the user has of that name, else what is well known,
/// else what its registry has.
async fn find_unmapped(state: &Rc<PodState>, container: &Container) -> Result<Image, NotStarted> {
    let name: ImageName = container.image.parse().map_err(|error| {
        let reason = "InvalidImageName";
        let message = format!("Failed to apply default image tag: {error}");
        NotStarted::Image(NoImage { reason, then: reason, message })
    })?;
    let known = well_known(&container.image, is_on_machine);
    let policy = container.image_pull_policy.unwrap_or(match name.tag() {
        Some("latest") => ImagePullPolicy::Always,
        _ => ImagePullPolicy::IfNotPresent,
    });
    let stored = in_store(state, &name)?;
    match (stored, known, policy) {
        // Loaded or pulled by the user, or pulled before for a pod.
        (Some(image), Ok(_), _)
        | (Some(image), Err(_), ImagePullPolicy::IfNotPresent | ImagePullPolicy::Never) => {
            Ok(present(state, container, image))
        }
        (None, Ok(image), _) => {
            let image = with_mongodb(state, container, image).await?;
            Ok(present(state, container, image))
        }
        (None, Err(_), ImagePullPolicy::Never) => {
            let image = &container.image;
            let message = format!(
                "Container image \"{image}\" is not present with pull policy of Never: {}",
                remedy(image)
            );
            let reason = "ErrImageNeverPull";
            Err(NotStarted::Image(NoImage { reason, then: reason, message }))
        }
        // A program that is well known, but missing, is not had from elsewhere.
        (None, Err(why @ images::NoImage::Missing { .. }), _) => Err(no_image(why.to_string())),
        (stored, Err(_), policy) => pull(state, container, &name, stored, policy).await,
    }
}

/// Pulls an image from its registry.
async fn pull(
    state: &Rc<PodState>,
    container: &Container,
    name: &ImageName,
    stored: Option<Image>,
    policy: ImagePullPolicy,
) -> Result<Image, NotStarted> {
    let (node, image) = (&state.node, &container.image);
    if !node.egress && !name.is_on_loopback() {
        return Err(no_image(format!(
            "image \"{image}\" is not here, and nothing is pulled as the mesh was started with \
             --no-egress: {}",
            remedy(image)
        )));
    }
    let begun = Instant::now();
    let event = |kind, reason, message| state.event(Some(&container.name), kind, reason, message);
    event(EventKind::Normal, "Pulling", format!("Pulling image \"{image}\""));
    let secrets = pull_secrets(state);
    let limits = node.limits.images.clone();
    let task = Pull { name: name.clone(), secrets, limits };
    let mut deletion = state.deletion();
    let outcome = tokio::select! {
        outcome = pull_in_turn(state, task, policy) => outcome?,
        // What was begun goes on for the next pod.
        _ = deletion.wait_for(Option::is_some) => {
            return Err(no_image("the pod ends".to_owned()));
        }
    };
    let time = format!("{:.3}s", begun.elapsed().as_secs_f64());
    match (outcome, stored) {
        (Some(Err(Failed { why, cause: Cause::Silence })), Some(stored)) if is_loaded(&stored) => {
            let message = format!("{why}; the image that was loaded serves");
            event(EventKind::Warning, "PullSkipped", message);
            Ok(present(state, container, stored))
        }
        (Some(Err(Failed { why, cause })), _) => {
            let remedy = if cause == Cause::Image { remedy_without(image) } else { remedy(image) };
            Err(no_image(format!("image \"{image}\": {why}; {remedy}")))
        }
        (outcome, _) => {
            let found = in_store(state, name)?;
            let gone = || no_image(format!("image \"{image}\" was pulled, and is gone again"));
            let found = found.ok_or_else(gone)?;
            let message = match outcome {
                Some(Ok(bytes)) => format!(
                    "Successfully pulled image \"{image}\" in {time}. Image size: {bytes} bytes."
                ),
                _ => format!("Container image \"{image}\" already present on machine"),
            };
            event(EventKind::Normal, "Pulled", message);
            Ok(found)
        }
    }
}

/// Pulls an image unless another pod just has; none if one has.
async fn pull_in_turn(
    state: &Rc<PodState>,
    task: Pull,
    policy: ImagePullPolicy,
) -> Result<Option<Outcome>, NotStarted> {
    let images = &state.node.images;
    let key = task.name.to_string();
    let turn = Rc::clone(images.turns.borrow_mut().entry(key.clone()).or_default());
    let outcome = {
        let _turn = turn.lock().await;
        if policy == ImagePullPolicy::IfNotPresent && in_store(state, &task.name)?.is_some() {
            Ok(None)
        } else {
            // It is closed by nobody.
            let _place = images.places(&task.limits).acquire_owned().await;
            Ok(Some(state.node.host.pull_image(task).await))
        }
    };
    // The last one in turn leaves nothing behind.
    if Rc::strong_count(&turn) <= 2 {
        images.turns.borrow_mut().remove(&key);
    }
    outcome
}

/// What to do about an image that cannot be pulled.
fn remedy(image: &str) -> String {
    match is_on_loopback(image) {
        true => "load it with `ironmesh image load FILE`".to_owned(),
        false => format!("load it with `ironmesh image load FILE`, or {}", mapping(image)),
    }
}

/// What to do about an image that is not taken, however it comes.
fn remedy_without(image: &str) -> String {
    match is_on_loopback(image) {
        true => "build it without that".to_owned(),
        false => format!("use one without that, or {}", mapping(image)),
    }
}

fn mapping(image: &str) -> String {
    let repository = images::repository(image);
    format!("say which command stands for it with `ironmesh image map '{repository}=COMMAND'`")
}

/// Whether an image is of a registry of this machine; then no command stands for it.
fn is_on_loopback(image: &str) -> bool {
    image.split_once('/').is_some_and(|(host, _)| ironmesh_images::is_loopback(host))
}

fn is_loaded(image: &Image) -> bool {
    image.real.as_ref().is_some_and(|held| held.image.loaded)
}

/// The texts of the pod's `imagePullSecrets`; one that is missing is none, as for Kubernetes.
fn pull_secrets(state: &PodState) -> Vec<String> {
    let pod = state.pod.borrow();
    let named = pod.spec.image_pull_secrets.iter().filter_map(|named| named["name"].as_str());
    let secret = |name| state.node.values(Holder::Secret, &pod.metadata.namespace, name).ok()?;
    let secrets = named.filter_map(secret);
    let texts = secrets.filter_map(|mut values| {
        values.remove(".dockerconfigjson").or_else(|| values.remove(".dockercfg"))
    });
    texts.filter_map(|bytes| String::from_utf8(bytes).ok()).collect()
}

/// The image of this name in the user's store.
fn in_store(state: &PodState, name: &ImageName) -> Result<Option<Image>, NotStarted> {
    let folder = &state.node.images.store;
    if !folder.exists() {
        return Ok(None);
    }
    let find = || {
        let store = Store::open(folder)?;
        let Some(image) = store.find(name)? else { return Ok(None) };
        Ok(store.hold(image)?.map(Image::of_real))
    };
    find().map_err(|error: ImageError| no_image(error.to_string()))
}

/// What stands for an image, with the MongoDB server built if it is that one and this machine has Go.
async fn with_mongodb(
    state: &Rc<PodState>,
    container: &Container,
    mut image: Image,
) -> Result<Image, NotStarted> {
    if image.program.first().is_some_and(|program| program == FERRETDB) {
        let built = state.node.programs.join(MONGODB).into_os_string().into_string();
        match (build_mongodb(state, container).await, built) {
            (Ok(()), Ok(built)) => image.program[0] = built,
            (Err(_), _) if is_on_machine("mongod") => {
                image.program = ["mongod", "--bind_ip_all"].map(str::to_owned).to_vec();
            }
            (Err(error), _) => return Err(error),
            (_, Err(path)) => return Err(no_image(format!("{path:?} is no UTF-8"))),
        }
    }
    Ok(image)
}

/// Has the MongoDB server built, once for all pods.
async fn build_mongodb(state: &Rc<PodState>, container: &Container) -> Result<(), NotStarted> {
    let node = &state.node;
    if !node.host.has_mongodb() {
        let text = "FerretDB v1.24.2 serves MongoDB's protocol; where it is not there yet it is built \
                    with Go, once, which takes minutes";
        state.event(Some(&container.name), EventKind::Normal, "Pulling", text.to_owned());
    }
    let mut deletion = state.deletion();
    let built = tokio::select! {
        built = node.host.build_mongodb() => built,
        // It goes on for the next pod.
        _ = deletion.wait_for(Option::is_some) => {
            return Err(no_image("the pod ends".to_owned()));
        }
    };
    built.map_err(|why| {
        no_image(format!(
            "image \"{}\" stands for FerretDB, which serves MongoDB's protocol and is built with Go \
             on this machine: {why}; install Go, or say which command to run instead with `ironmesh \
             image map '*mongodb=COMMAND'`",
            container.image
        ))
    })
}

fn no_image(message: String) -> NotStarted {
    NotStarted::Image(message.into())
}
