//! What is left when something is killed: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use ironmesh_fds as fds;
use ironmesh_local::sandbox::mesh::{Entered, enter_mesh};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::world::{PATIENCE, World, mesh_spec};

/// A stand-in for `up` is killed, with pods and stubborn programs running.
pub(crate) fn of_up() -> ExitCode {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let marker = format!("ironmesh-death-{}", std::process::id());
    let (ready, ready_write) = fds::pipe().unwrap();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(ready);
            stand_in_for_up(&marker, ready_write)
        }
        ForkResult::Parent { child } => {
            drop(ready_write);
            assert_eq!(fs::File::from(ready).read(&mut [0; 1]).unwrap(), 1, "no mesh");
            let begin = tokio::time::Instant::now();
            while marked_processes(&marker).len() < 3 {
                assert!(begin.elapsed() < PATIENCE, "the programs are seen from outside");
            }
            kill(child, Signal::SIGKILL).unwrap();
            waitpid(child, None).unwrap();
            let begin = tokio::time::Instant::now();
            while !marked_processes(&marker).is_empty() {
                assert!(begin.elapsed() < PATIENCE, "still there");
                std::thread::yield_now();
            }
            assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
            ExitCode::SUCCESS
        }
    }
}

/// Three pods with programs that ignore every polite signal; says when they run.
fn stand_in_for_up(marker: &str, ready: OwnedFd) -> ! {
    // If the scenario fails this is not to stay.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    match enter_mesh(&mesh_spec()).unwrap() {
        Entered::Outside { agent, lifeline: _lifeline } => {
            drop(ready);
            let _ = waitpid(Pid::from_raw(agent), None);
        }
        Entered::Inside { lifeline, root } => {
            let world = World::new(root);
            let script = format!("trap '' TERM INT HUP; echo up; exec -a {marker} sleep 5000");
            let mut all = Vec::new();
            for _ in 0..3 {
                let pod = world.pod();
                let spec = pod.spec(&world, &["bash", "-c", &script]);
                let mut running = pod.start(&spec).unwrap();
                running.await_output("up");
                all.push((pod, running));
            }
            fs::File::from(ready).write_all(b"x").unwrap();
            // As the agent: nothing ends but by its parent's death.
            let mut nothing = Vec::new();
            let _ = fs::File::from(lifeline).read_to_end(&mut nothing);
        }
    }
    std::process::exit(0)
}

pub(crate) fn of_a_stage(world: &World) {
    let pod = world.pod();
    let script = "trap '' TERM; echo up; exec sleep 5000";
    let mut running = pod.start(&pod.spec(world, &["sh", "-c", script])).unwrap();
    running.await_output("up");
    running.signal(Signal::SIGKILL);
    waitpid(Pid::from_raw(running.pid), None).unwrap();
    // Its output ends when the last process of it has ended.
    let mut rest = String::new();
    running.output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

fn marked_processes(marker: &str) -> BTreeSet<String> {
    let of = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        command.starts_with(marker).then_some(name)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}
