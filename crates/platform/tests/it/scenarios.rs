//! The scenarios.

use std::process::ExitCode;

use nix::sys::signal::Signal;

use crate::in_mesh;
use crate::world::{Finished, World};

/// Each scenario with its name.
pub(crate) const ALL: &[(&str, fn() -> ExitCode)] = &[
    ("a container runs and ends with its status", || in_mesh(runs_and_ends)),
    ("signals reach the program", || in_mesh(signals)),
];

fn runs_and_ends(world: &World) {
    let pod = world.pod();
    let finished = pod.shell(world, "echo hello; hostname; id -u; exit 3");
    assert_eq!(finished, Finished { code: 3, output: "hello\npod-0\n0\n".to_owned() });
    let missing = pod.start(&pod.spec(world, &["no-such-program"])).unwrap_err();
    assert!(missing.to_string().contains("not found in $PATH"), "{missing}");
    assert_eq!(pod.shell(world, "kill -9 $$").code, 137);
}

fn signals(world: &World) {
    let pod = world.pod();
    let script = "trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = pod.start(&pod.spec(world, &["sh", "-c", script])).unwrap();
    running.await_output("ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish(), Finished { code: 7, output: "term\n".to_owned() });
    // A program without a handler dies of it, as it is not PID 1.
    let running = pod.start(&pod.spec(world, &["sleep", "1000"])).unwrap();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish().code, 143);
}
