//! The scenarios.

mod containers;
mod death;
mod rights;
mod traffic;

use std::process::ExitCode;

use crate::in_mesh;

/// What a scenario is called, and what it does in a process of one thread.
type Scenario = (&'static str, fn() -> ExitCode);

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    ("a container runs and ends with its status", || in_mesh(containers::runs_and_ends)),
    ("signals reach the program", || in_mesh(containers::signals)),
    ("containers do not see each other's files", || in_mesh(containers::isolation)),
    ("the host's tree stays as it is", || in_mesh(containers::host_unchanged)),
    ("files, volumes and hidden directories", || in_mesh(containers::files_and_volumes)),
    ("files take the place of mounts", || in_mesh(containers::files_over_mounts)),
    ("no symlink in a volume is followed", || in_mesh(containers::symlinks_in_volumes)),
    ("a container has no rights", || in_mesh(containers::no_rights)),
    ("capabilities are those of a container", || in_mesh(rights::capabilities)),
    ("root of a container becomes its other users, and not the proxy", || in_mesh(rights::users)),
    ("all users of a pod share its limit of processes", || in_mesh(rights::processes)),
    ("no application passes for its proxy", || in_mesh(rights::marks)),
    ("no application sends from another's address", || in_mesh(rights::sources)),
    ("an application rules over its own network alone", || in_mesh(rights::own_network)),
    ("an application sees its own packets alone", || in_mesh(rights::sniffing)),
    ("a container runs as the user asked for", || in_mesh(containers::run_as_user)),
    ("the host's root is never a container's", || in_mesh(containers::shared_users)),
    ("what only root may read stays root's", containers::root_only),
    ("the kernel is closed but for what applications use", || in_mesh(containers::system_calls)),
    ("no file of a container gives rights", || in_mesh(containers::no_rights_by_files)),
    ("users are its own on a root that cannot map owners", containers::own_users_in_overlay),
    ("its own log can be opened again", || in_mesh(containers::streams)),
    ("commands run in a running container", || in_mesh(containers::exec)),
    ("a command gets a terminal", || in_mesh(containers::terminal)),
    ("python and redis run", || in_mesh(containers::real_programs)),
    ("a proxy may mark and nothing else", || in_mesh(containers::proxy)),
    ("eight pods with roots are quick", || in_mesh(containers::eight_pods)),
    ("capture leads traffic as described", || in_mesh(traffic::capture)),
    ("capture is listed by nft as meant", || in_mesh(traffic::listing)),
    ("plain Services are balanced in turn", || in_mesh(traffic::services)),
    ("five hundred Services", || in_mesh(traffic::many_services)),
    ("where namespaces are forbidden it says so", || in_mesh(containers::forbidden)),
    ("when up is killed nothing is left", death::of_up),
    ("when a stage is killed its container dies", || in_mesh(death::of_a_stage)),
];
