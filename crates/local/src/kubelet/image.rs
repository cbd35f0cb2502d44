//! The image of a container: what stands for it on this machine, or the real one, pulled if its policy
//! says so.

use std::rc::Rc;

use ironmesh_dialects::kubernetes::kinds::{Container, ImagePullPolicy};
use ironmesh_images::{ImageError, ImageName, Store};

use super::container::{NoImage, NotStarted};
use super::launch::is_on_machine;
use super::pod::PodState;
use crate::events::EventKind;
use crate::host::programs::MONGODB;
use crate::images::{FERRETDB, Image, well_known};

/// The image of a container, with what it tells of that in events.
pub(super) async fn find(state: &Rc<PodState>, container: &Container) -> Result<Image, NotStarted> {
    let image = match state.node.images.mapped(&container.image) {
        Some(image) => present(state, container, image),
        None => find_unmapped(state, container).await?,
    };
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
        let (reason, message) = ("InvalidImageName", format!("Failed to apply default: {error}"));
        NotStarted::Image(NoImage { reason, then: reason, message })
    })?;
    let known = well_known(&container.image, is_on_machine);
    let policy = container.image_pull_policy.unwrap_or(match name.tag() {
        Some("latest") => ImagePullPolicy::Always,
        _ => ImagePullPolicy::IfNotPresent,
    });
    let stored = in_store(state, &name).map_err(|error| no_image(error.to_string()))?;
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
            let message = format!(
                "Container image \"{}\" is not present with pull policy of Never: load it with \
                 `ironmesh image load FILE`, or map it with `ironmesh image map {0}=COMMAND`",
                container.image
            );
            let reason = "ErrImageNeverPull";
            Err(NotStarted::Image(NoImage { reason, then: reason, message }))
        }
        (stored, Err(why), _) => {
            let _ = stored;
            Err(no_image(why.to_string()))
        }
    }
}

/// The image of this name in the user's store.
fn in_store(state: &PodState, name: &ImageName) -> Result<Option<Image>, ImageError> {
    if !state.node.images.store.exists() {
        return Ok(None);
    }
    let store = Store::open(&state.node.images.store)?;
    let Some(image) = store.find(name)? else { return Ok(None) };
    Ok(store.hold(image)?.map(Image::of_real))
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
