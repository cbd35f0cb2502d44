use super::super::object::{read_pod, tests};
use super::*;

fn pod(policy: &str) -> Pod {
    let pod = tests::pod(json!({
        "restartPolicy": policy,
        "initContainers": [{"name": "init", "image": "i"}],
        "containers": [{"name": "app", "image": "a"}, {"name": "istio-proxy", "image": "x"}],
    }));
    read_pod(&pod).unwrap().0
}

fn ended(exit_code: i32) -> State {
    State::Terminated(Terminated { exit_code, ..Terminated::default() })
}

fn running() -> State {
    State::Running { since: "t".to_owned() }
}

fn record(pod: &Pod, init: State, app: State, ready: bool) -> PodRecord {
    let mut record = PodRecord::new(pod, "t0".to_owned());
    record.init_containers[0].state = init;
    record.containers[0].state = app;
    record.containers[1].state = running();
    record.containers[1].is_sidecar = true;
    record.containers.iter_mut().for_each(|container| container.ready = ready);
    record
}

#[test]
fn phases() {
    let waiting = || State::waiting("ContainerCreating");
    for (policy, init, app, phase) in [
        ("Always", waiting(), waiting(), "Pending"),
        ("Always", ended(1), waiting(), "Pending"),
        ("Never", ended(1), waiting(), "Failed"),
        ("Always", ended(0), waiting(), "Pending"),
        ("Always", ended(0), running(), "Running"),
        ("Always", ended(0), ended(0), "Running"),
        ("Never", ended(0), ended(0), "Succeeded"),
        ("Never", ended(0), ended(3), "Failed"),
        ("OnFailure", ended(0), ended(3), "Running"),
        ("OnFailure", ended(0), ended(0), "Succeeded"),
    ] {
        let pod = pod(policy);
        let case = format!("{policy} {init:?} {app:?}");
        assert_eq!(record(&pod, init, app, true).phase(pod.spec.restart_policy), phase, "{case}");
    }
}

#[test]
fn a_pod_ends_with_its_sidecar_and_not_before() {
    let pod = pod("Never");
    let mut record = record(&pod, ended(0), ended(3), false);
    record.containers[1].pid = Some(7);
    assert_eq!(record.phase(RestartPolicy::Never), "Running");
    record.containers[1].pid = None;
    assert_eq!(record.phase(RestartPolicy::Never), "Failed");
}

#[test]
fn a_container_in_back_off_keeps_its_pod_running() {
    let pod = pod("Always");
    let mut record = record(&pod, ended(0), State::waiting("CrashLoopBackOff"), false);
    record.containers[0].last = Some(Terminated::default());
    assert_eq!(record.phase(RestartPolicy::Always), "Running");
}

#[test]
fn an_unready_sidecar_makes_the_pod_unready_and_is_named() {
    let pod = pod("Always");
    let mut record = record(&pod, ended(0), running(), true);
    let before = record.status(&pod, &Value::Null, "t1");
    assert_eq!(before["conditions"][1]["status"], "True");
    record.containers[1].ready = false;
    assert_eq!(record.ready_count(), "1/2");
    let after = record.status(&pod, &before, "t2");
    let ready = &after["conditions"][1];
    assert_eq!(ready["status"], "False");
    assert_eq!(ready["lastTransitionTime"], "t2");
    assert_eq!(ready["message"], "containers with unready status: [istio-proxy]");
    let initialized = &after["conditions"][0];
    assert_eq!(initialized["lastTransitionTime"], "t1", "unchanged conditions keep their time");
}
