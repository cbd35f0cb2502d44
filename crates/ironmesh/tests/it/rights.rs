//! Capabilities of applications: those of a container, which count in their pod alone.

use crate::running::{Running, as_every_user, await_some, samples};

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: rights}
spec:
  containers:
  - {name: usual, image: ironmesh/sleep}
  - name: greedy
    image: ironmesh/sleep
    securityContext: {capabilities: {add: [ALL, CAP_SYS_ADMIN, SYS_MODULE, NET_ADMIN]}}
  - name: some
    image: ironmesh/sleep
    securityContext: {capabilities: {drop: [CHOWN, NET_RAW], add: [CHOWN, NET_ADMIN]}}
  - name: one
    image: ironmesh/sleep
    securityContext: {capabilities: {drop: [ALL], add: [CHOWN]}}
  - name: none
    image: ironmesh/sleep
    securityContext: {capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  securityContext:
    sysctls:
    - {name: net.ipv4.ip_local_port_range, value: 30000 30999}
    - {name: net/ipv4/tcp_fin_timeout, value: '7'}
    - {name: kernel.core_pattern, value: /tmp/core}
  containers:
  - {name: usual, image: ironmesh/sleep}
  - name: user
    image: ironmesh/sleep
    securityContext: {runAsUser: 1000}
";

const NO_ROOT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: strict}
spec:
  securityContext: {runAsNonRoot: true}
  containers:
  - name: root
    image: ironmesh/sleep
    securityContext: {runAsUser: 0}
  - name: user
    image: ironmesh/sleep
    securityContext: {runAsUser: 1000}
  - name: exempt
    image: ironmesh/sleep
    securityContext: {runAsUser: 0, runAsNonRoot: false}
";

/// What container runtimes give.
const USUAL: u64 = 0xa804_25fb;
/// What a container gets at most.
const MOST: u64 = USUAL | 1 << 2 | 1 << 11 | 1 << 12 | 1 << 15 | 1 << 19 | 1 << 28;

#[test]
fn a_container_has_the_capabilities_of_a_container() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    as_every_user(PODS, &[], |mesh| {
        has_capabilities(mesh);
        has_its_own_files(mesh);
        has_its_own_settings(mesh);
        reaches_no_further(mesh);
    });
}

fn has_its_own_settings(mesh: &Running) {
    let read = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/tcp_fin_timeout";
    assert_eq!(run(mesh, "other", "usual", read), "30000\t30999\n7\n");
    assert_ne!(run(mesh, "rights", "usual", read), "30000\t30999\n7\n");
    let machines = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert_ne!(machines, "/tmp/core\n");
}

#[test]
fn who_must_not_run_as_root_is_not_started_as_root() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let Some(mesh) = Running::start("", &[]) else { return };
    mesh.write("strict.yaml", NO_ROOT);
    mesh.ok(&["apply", "-f", "strict.yaml"]);
    let state = |container: &str| {
        let path =
            format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].state}}");
        mesh.run(&["get", "pod", "strict", "-o", &path]).out
    };
    for (container, is) in
        [("root", "CreateContainerConfigError"), ("user", "running"), ("exempt", "running")]
    {
        await_some(container, || state(container).contains(is).then_some(()));
    }
    let said = mesh.ok(&["describe", "pod", "strict"]);
    assert!(said.contains("Error: container's runAsUser breaks non-root policy"), "{said}");
    assert!(state("root").contains("container: root"), "{}", state("root"));
}

fn has_its_own_files(mesh: &Running) {
    let run = |container: &str, script: &str| run(mesh, "rights", container, script);
    let own = "touch /tmp/own && chown 0:0 /tmp/own && echo own";
    assert_eq!(run("usual", own), "own\n");
    let refused = "echo x > /tmp/f; chown 33 /tmp/f 2>/dev/null || echo refused";
    assert_eq!(run("none", refused), "refused\n");
    if !mesh.is_of_root() {
        return;
    }
    // As in a container elsewhere: files change hands, root reads what is another user's, and becomes
    // another one.
    let files = "echo mine > /tmp/f && chown 33:33 /tmp/f && chmod 600 /tmp/f && \
                 stat -c %u:%g /tmp/f && cat /tmp/f";
    assert_eq!(run("usual", files), "33:33\nmine\n");
    let user = "setpriv --reuid 33 --regid 33 --init-groups sh -c 'id -u; id -G'";
    assert_eq!(run("usual", user), "33\n33\n");
    assert_eq!(run_in_user(mesh), format!("{USUAL:016x} {:016x} {:016x} ", 0, 0));
}

fn run(mesh: &Running, pod: &str, container: &str, script: &str) -> String {
    mesh.run(&["exec", pod, "-c", container, "--", "sh", "-c", script]).out
}

/// Bounding, effective and permitted capabilities.
const STATUS: &str =
    "grep -hE 'Cap(Eff|Prm|Bnd)' /proc/self/status | sort | cut -f2 | tr -s '\\n' ' '";

fn run_in_user(mesh: &Running) -> String {
    run(mesh, "other", "user", STATUS)
}

fn has_capabilities(mesh: &Running) {
    let some = USUAL & !1 & !(1 << 13) | 1 << 12;
    for (container, bits) in
        [("usual", USUAL), ("greedy", MOST), ("some", some), ("one", 0x01), ("none", 0)]
    {
        let expected = format!("{bits:016x} ").repeat(3);
        assert_eq!(run(mesh, "rights", container, STATUS), expected, "{container}");
    }
    let said = mesh.run(&["describe", "pod", "rights"]).out;
    assert!(said.contains("Running"), "{said}");
}

/// Whatever a container asks for: what is the machine's, the mesh's or another pod's stays that.
fn reaches_no_further(mesh: &Running) {
    for hostile in [
        "cat /etc/shadow",
        "chown 0 /etc/shadow",
        "mount -t tmpfs x /mnt",
        "unshare -n true",
        "unshare -U true",
        "nsenter --net=/proc/1/ns/net true",
        "mknod /tmp/d b 8 0",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "hostname mine",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "setpriv --reuid 65536 true",
        "curl -fs -m 5 http://10.77.0.1:15000/",
    ] {
        let said =
            run(mesh, "rights", "greedy", &format!("{hostile} >/dev/null 2>&1 && echo done"));
        assert_eq!(said, "", "{hostile}");
    }
    // Its network is its own to spoil.
    let ruined =
        run(mesh, "rights", "greedy", "ip link set eth0 down && ip link set lo down && echo done");
    assert!(["", "done\n"].contains(&&*ruined), "{ruined}");
    assert_eq!(
        run(mesh, "other", "usual", "curl -s -m 20 -o /dev/null localhost:15000/ && echo fine"),
        "fine\n"
    );
}
