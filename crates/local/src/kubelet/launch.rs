//! Starting an application container: its program, environment, volumes and root.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::Container;
use ironmesh_dialects::schema::Bounded;
use ironmesh_images::Held;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::container::{NotStarted, Running};
use super::pod::{Inside, PodState};
use super::{image, volumes};
use crate::addresses::HOST_IP;
use crate::environment::{self, BadConfig, DEFAULT_PATH, Sources};
use crate::events::EventKind;
use crate::host_link::MemoryLimit;
use crate::images::{Image, SAMPLES};
use crate::node::Node;
use crate::sandbox::capabilities;
use crate::sandbox::container::{
    ContainerIo, ContainerSpec, ImageRoot, ProgramLimits, RootFile, spawn,
};
use crate::sandbox::pod::PodSandbox;
use crate::sandbox::{ProgramFile, SandboxError, StageStatus};

/// Starts the program of a container; returns when it runs.
pub(super) async fn launch(
    state: &Rc<PodState>,
    container: &Container,
) -> Result<Running, NotStarted> {
    let name = Some(container.name.as_str());
    let image = image::find(state, container).await?;
    let image_id = image::id(&container.image, &image);
    let prepared = Prepared::new(state, container, image)?;
    let log = state.node.logs.begin(state.log(&container.name), true).await;
    let log = log.map_err(|error| NotStarted::Program(format!("log of the container: {error}")))?;
    let sandbox = sandbox(state)?;
    let volumes: Vec<_> = prepared.volumes.iter().map(AsFd::as_fd).collect();
    let memory = memory(state, container).await;
    let input = container.stdin.then(ironmesh_fds::pipe).transpose();
    let input = input.map_err(|error| NotStarted::Program(format!("standard input: {error}")))?;
    let io = ContainerIo {
        cgroup: memory.as_ref().map(|limit| limit.join.as_fd()),
        stdin: input.as_ref().map(|(reading, _)| reading.as_fd()),
        stdout: Some(log.as_fd()),
        stderr: Some(log.as_fd()),
        program: prepared.program.as_ref(),
        volumes: &volumes,
    };
    let spawned = spawn(&sandbox, &prepared.spec, io)
        .map_err(|error| NotStarted::Program(format!("cannot make a process: {error}")))?;
    let ended = state.node.reaper.expect(spawned.pid);
    let message = format!("Created container {}", container.name);
    state.event(name, EventKind::Normal, "Created", message);
    let init = started(spawned.status).await.map_err(|e| NotStarted::Program(e.to_string()))?;
    let inside = Inside {
        init,
        environment: prepared.spec.environment,
        user: prepared.spec.user,
        directory: prepared.spec.directory,
        limits: prepared.spec.limits,
        image: prepared.image,
        cgroup: memory.as_ref().and_then(|limit| limit.join.try_clone().ok()).map(Rc::new),
    };
    state.inits.borrow_mut().insert(container.name.to_string(), inside);
    if let Some((_, writing)) = input {
        state.inputs.borrow_mut().insert(container.name.to_string(), Rc::new(writing));
    }
    Ok(Running { pid: spawned.pid, ended, memory, image_id })
}

/// What bounds the memory of a container, if its manifest does and the machine allows it.
async fn memory(state: &PodState, container: &Container) -> Option<MemoryLimit> {
    let asked = container.resources.limits.get("memory")?;
    let bytes = u64::try_from(asked.thousandths()?.div_ceil(1_000)).ok()?;
    match state.node.host.limit_memory(bytes).await {
        Ok(limit) => Some(limit),
        Err(why) => {
            let message = format!("limits.memory is not enforced: {why}");
            state.event(Some(&container.name), EventKind::Normal, "MemoryNotLimited", message);
            None
        }
    }
}

/// Waits until a stage says that its program runs; returns the container's first process.
pub(crate) async fn started(status: StageStatus) -> Result<i32, SandboxError> {
    let failed = |error: std::io::Error| SandboxError::new("read the stage's report:", error, 0);
    let mut pipe = pipe::Receiver::from_owned_fd(status.into_fd()).map_err(failed)?;
    let mut text = String::new();
    pipe.read_to_string(&mut text).await.map_err(failed)?;
    StageStatus::parse(&text)
}

/// The namespaces of a pod that runs.
pub(super) fn sandbox(state: &PodState) -> Result<Arc<PodSandbox>, NotStarted> {
    let none = || NotStarted::Config("the pod has no namespaces yet".to_owned());
    state.sandbox.get().cloned().ok_or_else(none)
}

/// What a container is started with.
struct Prepared {
    spec: ContainerSpec,
    program: Option<ProgramFile>,
    image: Image,
    /// Mounts that the spec's volumes refer to.
    volumes: Vec<OwnedFd>,
}

impl Prepared {
    fn new(state: &Rc<PodState>, container: &Container, image: Image) -> Result<Self, NotStarted> {
        let config = |error: BadConfig| NotStarted::Config(error.to_string());
        let node = &state.node;
        let pod = state.pod.borrow();
        let namespace = &pod.metadata.namespace;
        let services = node.services.filtered(|service| service.metadata.namespace == *namespace);
        let ip = state.ip().map(|ip| ip.to_string()).unwrap_or_default();
        let user = user(state, container, &image)?;
        let variables = environment::environment(&Sources {
            pod: &pod,
            container,
            ip: &ip,
            host_ip: HOST_IP,
            services: &services,
            api: node.services.object("default", "kubernetes").as_ref(),
            objects: &**node,
            image: &image.env,
            home: &user.home,
        })
        .map_err(config)?;
        let expanded = |words: &[String]| -> Vec<String> {
            words.iter().map(|word| environment::expand(word, &variables)).collect()
        };
        let argv = image.command_line(&expanded(&container.command), &expanded(&container.args));
        let hidden = |word: &&String| image.real.is_none() && is_hidden(node, word);
        for word in argv.iter().skip(1).filter(hidden) {
            let message = format!(
                "{word} lies in a folder of the host that containers do not see: move it to one \
                 that they see, such as /opt"
            );
            state.event(Some(&container.name), EventKind::Warning, "HiddenPath", message);
        }
        let (argv, program) = program(node, argv, &image)?;
        let (mounts, volumes) = volumes::mounts(state, container, &variables)
            .map_err(|error| NotStarted::Config(error.to_string()))?;
        let directory = match container.working_dir.as_str() {
            "" => image.directory.clone(),
            given => Some(PathBuf::from(given)),
        };
        let layers = |held: &Rc<Held>| ImageRoot { layers: held.layers.clone() };
        let asked = &container.security_context.capabilities;
        let spec = ContainerSpec {
            argv,
            environment: variables.into_iter().collect(),
            directory,
            user: user.ids.filter(|_| node.users.is_some()),
            image: image.real.as_ref().map(layers),
            uid_base: volumes::uid_base(state),
            volumes: mounts,
            files: files(state),
            hidden: node.hidden.clone(),
            limits: ProgramLimits {
                capabilities: capabilities::of_container(&asked.add, &asked.drop),
                ..node.program_limits()
            },
            writable_bytes_max: node.limits.platform.writable_bytes_max,
        };
        Ok(Self { spec, program, image, volumes })
    }
}

/// Who a container runs as.
struct ContainerUser {
    /// User and group; none: root.
    ids: Option<(u32, u32)>,
    home: String,
}

/// Who a container runs as: as its manifest says, else as its image does. Where the mesh has a single
/// user, that one, and an event says so.
fn user(
    state: &PodState,
    container: &Container,
    image: &Image,
) -> Result<ContainerUser, NotStarted> {
    let pod = state.pod.borrow();
    let (own, shared) = (&container.security_context, &pod.spec.security_context);
    let wanted = own.run_as_user.or(shared.run_as_user).map(Bounded::get);
    let group = own.run_as_group.or(shared.run_as_group).map(Bounded::get);
    if own.run_as_non_root.or(shared.run_as_non_root) == Some(true) {
        let of_image = image.real.as_ref().map(|held| held.image.config.user.as_str());
        if let Err(why) = is_not_root(wanted, of_image) {
            let pod = &pod.metadata;
            let place = format!(
                "(pod: \"{}_{}({})\", container: {})",
                pod.name, pod.namespace, pod.uid, container.name
            );
            return Err(NotStarted::Config(format!("{why} {place}")));
        }
    }
    let (ids, home) = match &image.real {
        Some(held) => {
            let user = ironmesh_images::user(held, wanted, group)
                .map_err(|error| NotStarted::Config(format!("user of the image: {error}")))?;
            (Some((user.user, user.group)).filter(|ids| *ids != (0, 0)), user.home)
        }
        None => {
            let wanted = wanted.filter(|user| *user != 0);
            (wanted.map(|user| (user, group.unwrap_or(0))), "/root".to_owned())
        }
    };
    if let (Some((user, _)), None) = (ids.filter(|(user, _)| *user != 0), &state.node.users) {
        let who = if wanted.is_some() { "runAsUser" } else { "the image's user" };
        let message = format!(
            "{who} {user} is not honoured: the mesh was not started by root, so there is one user only"
        );
        state.event(Some(&container.name), EventKind::Normal, "RunAsUser", message);
    }
    Ok(ContainerUser { ids, home })
}

/// Whether the user is known not to be root, as `runAsNonRoot` asks for; else why not, as Kubernetes
/// says it. `of_image` is the `USER` of a real image.
fn is_not_root(wanted: Option<u32>, of_image: Option<&str>) -> Result<(), String> {
    let of_image = of_image.map(|user| user.split(':').next().unwrap_or_default());
    match (wanted, of_image) {
        (Some(0), _) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (None, Some("" | "0")) => {
            Err("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, Some(name)) if name.parse::<u32>().is_err() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user \
             is non-root"
        )),
        _ => Ok(()),
    }
}

/// The program of a command line: by descriptor, where it is not in the container's root.
fn program(
    node: &Node,
    mut argv: Vec<String>,
    image: &Image,
) -> Result<(Vec<String>, Option<ProgramFile>), NotStarted> {
    let Some(first) = argv.first() else {
        return Err(NotStarted::Program("the image has no command, and none is given".to_owned()));
    };
    if image.real.is_some() {
        return Ok((argv, None));
    }
    // What whoever started the mesh said that the image stands for.
    let given = [&*image.entrypoint, &image.program].concat();
    let samples = || match &node.samples {
        Some(file) => file.try_clone().map_err(|e| e.to_string()),
        None => Err(format!("the program {SAMPLES} is neither beside ironmesh nor in PATH")),
    };
    if first == SAMPLES {
        return Ok((argv, Some(samples().map_err(NotStarted::Program)?)));
    }
    if stands_in(first) {
        argv.insert(0, SAMPLES.to_owned());
        return Ok((argv, Some(samples().map_err(NotStarted::Program)?)));
    }
    // The containers' `/tmp` is their own: what is mapped to a program there means the machine's.
    let is_in_tmp = || given.first() == Some(first) && is_file_in(Path::new("/tmp"), first);
    if is_hidden(node, first) || Path::new(first).starts_with(&node.programs) || is_in_tmp() {
        if node.users.is_some() && given.first() != Some(first) {
            let message = format!(
                "program {first}: manifests do not reach into this folder of the host: start the \
                 mesh with --image IMAGE={first}"
            );
            return Err(NotStarted::Program(message));
        }
        let file = ProgramFile::open(Path::new(first))
            .map_err(|error| NotStarted::Program(error.to_string()))?;
        return Ok((argv, Some(file)));
    }
    Ok((argv, None))
}

/// Whether a path of the host is one that containers do not see.
fn is_hidden(node: &Node, path: &str) -> bool {
    let path = Path::new(path);
    path.is_absolute() && node.hidden.iter().any(|folder| path.starts_with(folder)) && path.exists()
}

fn is_file_in(folder: &Path, path: &str) -> bool {
    Path::new(path).starts_with(folder) && Path::new(path).is_file()
}

/// A command that is to run inside a container: one of its image, or of the machine.
pub(crate) fn command_inside<'a>(
    node: &'a Node,
    image: &Image,
    command: Vec<String>,
) -> (Vec<String>, Option<&'a ProgramFile>) {
    let mut argv = image.own(command);
    if image.real.is_some() {
        return (argv, None);
    }
    if argv.first().is_some_and(|first| stands_in(first)) {
        argv.insert(0, SAMPLES.to_owned());
    }
    let is_sample = argv.first().is_some_and(|first| first == SAMPLES);
    (argv, node.samples.as_ref().filter(|_| is_sample))
}

/// Whether one of our own programs stands in for a common one that this machine lacks.
fn stands_in(program: &str) -> bool {
    matches!(program, "curl" | "sleep") && !is_on_machine(program)
}

/// Whether a program is found in the search path of containers.
pub(super) fn is_on_machine(program: &str) -> bool {
    DEFAULT_PATH.split(':').any(|folder| {
        let metadata = std::fs::metadata(Path::new(folder).join(program));
        metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

/// The files that tell a container its names.
fn files(state: &PodState) -> Vec<RootFile> {
    let pod = state.pod.borrow();
    let (namespace, hostname) = (&pod.metadata.namespace, pod.hostname());
    let ip = state.ip().map(|ip| ip.to_string()).unwrap_or_default();
    let own = if pod.spec.subdomain.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{}.{namespace}.svc.cluster.local\t{hostname}", pod.spec.subdomain)
    };
    let mut hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{ip}\t{own}\n");
    for alias in &pod.spec.host_aliases {
        hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    let resolv = format!(
        "nameserver {HOST_IP}\n\
         search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n\
         options ndots:5\n"
    );
    [
        ("/etc/hosts", hosts),
        ("/etc/resolv.conf", resolv),
        ("/etc/hostname", format!("{hostname}\n")),
    ]
    .into_iter()
    .map(|(path, content)| RootFile { path: path.into(), content })
    .collect()
}

/// Variables of a container, by name.
pub(super) type Variables = BTreeMap<String, String>;
