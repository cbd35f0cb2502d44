//! Capabilities of applications: over the files of their own users, where root started the mesh.

use crate::running::{Running, samples};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: rights}
spec:
  containers:
  - {name: usual, image: ironmesh/sleep}
  - name: greedy
    image: ironmesh/sleep
    securityContext: {capabilities: {add: [ALL, NET_ADMIN, CAP_NET_RAW, SYS_ADMIN, SETUID, SYS_PTRACE]}}
  - name: one
    image: ironmesh/sleep
    securityContext: {capabilities: {drop: [ALL], add: [CHOWN]}}
  - name: none
    image: ironmesh/sleep
    securityContext: {capabilities: {drop: [ALL]}}
  - name: user
    image: ironmesh/sleep
    securityContext: {runAsUser: 1000}
";

#[test]
fn root_of_a_container_has_its_way_with_its_own_files_and_with_nothing_else() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root gives containers users of their own");
        return;
    }
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let Some(mesh) = Running::start(PODS, &[]) else { return };
    let run = |container: &str, script: &str| {
        mesh.run(&["exec", "rights", "-c", container, "--", "sh", "-c", script]).out
    };
    let status = "grep -hE 'Cap(Eff|Prm|Bnd)' /proc/self/status | sort | cut -f2 | tr -s '\\n' ' '";
    let of = |bits: u64| format!("{bits:016x} ").repeat(3);
    for (container, bits) in [("usual", 0x1b), ("greedy", 0x1b), ("one", 0x01), ("none", 0)] {
        assert_eq!(run(container, status), of(bits), "{container}");
    }
    assert_eq!(run("user", status), of(0));
    // As in a container elsewhere: files change hands, and root reads what is another user's.
    let files = "echo mine > /tmp/f && chown 33:33 /tmp/f && chmod 600 /tmp/f && \
                 stat -c %u:%g /tmp/f && cat /tmp/f";
    assert_eq!(run("usual", files), "33:33\nmine\n");
    assert_eq!(
        run("none", "echo x > /tmp/f; chown 33 /tmp/f 2>/dev/null || echo refused"),
        "refused\n"
    );
    // Whatever a container asks for: what is the machine's, its network or another user's stays that.
    for hostile in [
        "cat /etc/shadow",
        "chown 0 /etc/shadow",
        "mount -t tmpfs x /mnt",
        "unshare -n true",
        "unshare -U true",
        "chroot / true",
        "mknod /tmp/d b 8 0",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "setpriv --reuid 33 true",
        "nft flush ruleset",
        "ip link set lo down",
        "cat /proc/1/environ",
    ] {
        let said = run("greedy", &format!("{hostile} >/dev/null 2>&1 && echo done"));
        assert_eq!(said, "", "{hostile}");
    }
}
