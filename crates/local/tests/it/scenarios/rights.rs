//! Capabilities: what they are good for in a pod, and that they reach no further.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;

use ironmesh_local::sandbox::container::ContainerSpec;

use super::traffic;
use crate::world::{GATEWAY, PATIENCE, Pod, World};

/// Those that container runtimes give.
const USUAL: u32 = 0xa804_25fb;
const NET_ADMIN: u32 = 1 << 12;

/// A container with these capabilities.
fn with(pod: &Pod, world: &World, capabilities: u32, argv: &[&str]) -> ContainerSpec {
    let mut spec = pod.spec(world, argv);
    spec.limits.capabilities = capabilities;
    spec
}

/// What a Python program prints in a container that has all of them; none where there is no Python.
fn python(pod: &Pod, world: &World, script: &str) -> Option<String> {
    python_within(pod, world, script, 4_096)
}

/// As [`python`], of a program that may have so many processes.
fn python_within(pod: &Pod, world: &World, script: &str, processes: u32) -> Option<String> {
    if !Path::new("/usr/bin/python3").exists() {
        println!("SKIPPED: python3 is not installed");
        return None;
    }
    let script = format!("{PRELUDE}{script}");
    let mut spec = with(pod, world, USUAL | NET_ADMIN, &["/usr/bin/python3", "-c", &script]);
    spec.limits.processes = processes;
    Some(pod.start(&spec).unwrap().finish().output)
}

const PRELUDE: &str = "
import errno, os, socket as s, struct, subprocess
def tried(work, *arguments):
    try: return work(*arguments)
    except OSError as e: return errno.errorcode[e.errno]
def answer(connection, to):
    said = tried(connection.connect, to)
    return said or connection.makefile().read()
def checksum(b):
    n = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return n ^ 0xffff
def udp(source, to, port, text):
    data = struct.pack('!HHHH', 4000, port, 8 + len(text), 0) + text
    def head(check):
        return struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(data), 1, 0, 64, 17, check,
                           s.inet_aton(source), s.inet_aton(to))
    return head(checksum(head(0))) + data
";

pub(crate) fn capabilities(world: &World) {
    let pod = world.pod();
    let script =
        "grep -hE 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status | cut -f2 | tr '\\n' ' '";
    let seen = |given: u32, user: Option<(u32, u32)>| {
        let spec = ContainerSpec { user, ..with(&pod, world, given, &["sh", "-c", script]) };
        pod.start(&spec).unwrap().finish().output
    };
    let status = |held: u32, bounding: u32| {
        format!("{:016x} {held:016x} {held:016x} {bounding:016x} {:016x} 1 ", 0, 0)
    };
    for given in [USUAL, USUAL | NET_ADMIN, 1, 0] {
        assert_eq!(seen(given, None), status(given, given));
    }
    // What reaches further is not had, whoever asks for it.
    let most = seen(u32::MAX, None);
    let held = u32::from_str_radix(most.split(' ').nth(2).unwrap(), 16).unwrap();
    assert_eq!(held & !(USUAL | NET_ADMIN), 1 << 2 | 1 << 11 | 1 << 15 | 1 << 19 | 1 << 28);
    if world.root {
        assert_eq!(seen(USUAL, Some((1000, 1000))), status(0, USUAL));
    }
    // Commands in it have the same.
    let mut running =
        pod.start(&with(&pod, world, USUAL, &["sh", "-c", "echo up; sleep 1000"])).unwrap();
    running.await_output("up");
    let mut command = running.exec_spec(&["sh", "-c", script]);
    command.limits.capabilities = USUAL;
    assert_eq!(running.run_command(&command).output, status(USUAL, USUAL));
    running.signal(nix::sys::signal::Signal::SIGKILL);
}

pub(crate) fn users(world: &World) {
    let pod = world.pod();
    let script = "
print(tried(os.setuid, 65536), tried(os.setreuid, 65536, -1), tried(os.setreuid, -1, 65536))
print(tried(os.setresuid, -1, -1, 65536), tried(os.setresuid, -1, 65536, -1))
import ctypes
ctypes.CDLL(None).setfsuid(65536)
print([line.split()[1:] for line in open('/proc/self/status') if line.startswith('Uid')])
print(tried(os.setgroups, [33, 44]), tried(os.setgid, 33), tried(os.setuid, 33), os.getuid(), os.getgid())
print(tried(os.setuid, 0))
";
    let Some(output) = python(&pod, world, script) else { return };
    let changed = match world.root {
        true => "None None None 33 33\nEPERM\n",
        // There is one user.
        false => "EPERM EINVAL EINVAL 0 0\nNone\n",
    };
    let expected = format!("EPERM EPERM EPERM\nEPERM EPERM\n[['0', '0', '0', '0']]\n{changed}");
    assert_eq!(output, expected);
}

/// Forks as one user after the other, as long as it may. Without root there is one user, whom the limit of
/// each process concerns.
pub(crate) fn processes(world: &World) {
    let pod = world.pod_of(60);
    let script = "
import signal
made = 0
def fork_all(left):
    global made
    while left:
        try: pid = os.fork()
        except BlockingIOError: return False
        if pid == 0: signal.pause()
        made, left = made + 1, left - 1
    return True
for user in range(1, 100):
    if not fork_all(10): break
    if MANY: os.setresuid(0, 0, 0); os.setresuid(user, user, 0)
print('stopped', made)
";
    let script = format!("MANY = {}{script}", if world.root { "True" } else { "False" });
    let limit = if world.root { 4_096 } else { 60 };
    let Some(output) = python_within(&pod, world, &script, limit) else { return };
    let made: u32 = output.trim().strip_prefix("stopped ").unwrap_or("0").parse().unwrap();
    // Beside it are the container's init and itself.
    assert!((20..60).contains(&made), "{output}");
    // Others are not concerned.
    assert_eq!(world.pod().shell(world, "true & true & wait; echo fine").output, "fine\n");
}

/// A mark, or what else tells the proxy's connections, leads no application past it.
pub(crate) fn marks(world: &World) {
    let (meshed, plain) = (traffic::meshed(world), world.pod());
    plain.serve("plain", SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9080));
    let script = format!(
        "
for mark in 1, 2, 3:
    for to in '{}', '{}':
        c = s.socket()
        marked = tried(c.setsockopt, s.SOL_SOCKET, s.SO_MARK, mark)
        said = answer(c, (to, 9080)).split()
        print(marked, *said[:2])
c = s.socket()
print(tried(c.setsockopt, s.SOL_IP, s.IP_TRANSPARENT, 1), answer(c, ('{}', 9080)).split()[0])
",
        plain.sandbox.ip(),
        meshed.sandbox.ip(),
        plain.sandbox.ip(),
    );
    let Some(output) = python(&meshed, world, &script) else { return };
    let marked = if world.root { "None" } else { "EPERM" };
    let own = meshed.sandbox.ip();
    let each = format!("{marked} outbound 127.0.0.1:15001\n{marked} app {own}:9080\n");
    assert_eq!(output, format!("{}None outbound\n", each.repeat(3)));
}

/// Receives what reaches a pod at a port, until `last` comes: who sent it, and what.
fn received(socket: &UdpSocket, last: &str) -> Vec<String> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 100];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let is_last = text == last;
        all.push(format!("{} {text}", from.ip()));
        if is_last {
            return all;
        }
    }
}

/// A forged source reaches nobody: not by raw sockets, not by frames, not by another address of the
/// interface, and not by lies to the neighbours.
pub(crate) fn sources(world: &World) {
    let (hostile, victim, other) = (world.pod(), world.pod(), world.pod());
    let at = SocketAddrV4::new(victim.sandbox.ip(), 5000);
    let socket = victim.sandbox.in_netns(|| UdpSocket::bind(at).unwrap()).unwrap();
    let (own, victim_ip, other_ip) = (hostile.sandbox.ip(), at.ip(), other.sandbox.ip());
    let outside = UdpSocket::bind(SocketAddrV4::new(GATEWAY, 5000)).unwrap();
    let script = format!(
        "
raw = s.socket(s.AF_INET, s.SOCK_RAW, s.IPPROTO_RAW)
wire = s.socket(s.AF_PACKET, s.SOCK_RAW)
wire.bind(('eth0', 0))
mine = wire.getsockname()[4]
link = [l.split() for l in open('/proc/net/arp').readlines()[1:]]
gate = bytes.fromhex([l[3] for l in link if l[0] == '{GATEWAY}'][0].replace(':', ''))
def send(source, to, text):
    packet = udp(source, to, 5000, text)
    tried(raw.sendto, packet, (to, 0))
    wire.send(gate + mine + b'\\x08\\x00' + packet)
for to in '{victim_ip}', '{GATEWAY}':
    for source in '{other_ip}', '{GATEWAY}', '10.96.0.1', '127.0.0.1', '192.0.2.7', '{victim_ip}':
        send(source, to, b'forged')
# To whom asks for it, it is the other pod.
arp = struct.pack('!HHBBH6s4s6s4s', 1, 0x800, 6, 4, 2, mine, s.inet_aton('{other_ip}'), gate, s.inet_aton('{GATEWAY}'))
wire.send(gate + mine + b'\\x08\\x06' + arp)
# The other pod's address becomes its own.
print(subprocess.run(['ip', 'address', 'add', '{other_ip}/32', 'dev', 'eth0']).returncode)
u = s.socket(s.AF_INET, s.SOCK_DGRAM)
u.bind(('{other_ip}', 4001))
tried(u.sendto, b'forged', ('{victim_ip}', 5000))
tried(u.sendto, b'forged', ('{GATEWAY}', 5000))
send('{own}', '{victim_ip}', b'honest')
send('{own}', '{GATEWAY}', b'honest')
"
    );
    let Some(output) = python(&hostile, world, &script) else { return };
    assert_eq!(output, "0\n");
    assert_eq!(received(&socket, "honest"), [format!("{own} honest")]);
    assert_eq!(received(&outside, "honest"), [format!("{own} honest")]);
    // What is sent to the other pod still reaches it.
    let there = SocketAddrV4::new(other_ip, 5001);
    let listening = other.sandbox.in_netns(|| UdpSocket::bind(there).unwrap()).unwrap();
    socket.send_to(b"to the other", there).unwrap();
    assert_eq!(received(&listening, "to the other"), [format!("{victim_ip} to the other")]);
}

/// With NET_ADMIN an application changes its own network as it likes, but for capture's rules, which it
/// can only go before. What it sends past its proxy is its own all the same, and it reaches neither
/// another namespace nor what is closed to pods.
pub(crate) fn own_network(world: &World) {
    let (meshed, plain) = (traffic::meshed(world), world.pod());
    plain.serve("plain", SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9080));
    let loopback = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 9090)).unwrap();
    crate::world::serve(loopback, "loopback of the mesh");
    let script = format!(
        "
def run(*words):
    try: return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except FileNotFoundError: return 'absent'
print(run('ip', 'link', 'add', 'own0', 'type', 'veth', 'peer', 'name', 'own1'), run('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'own0'))
print(run('ip', 'link', 'set', 'own0', 'up'), run('ip', 'route', 'add', '198.51.100.0/24', 'dev', 'own0'))
print(run('tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'pfifo'), run('nft', 'add', 'table', 'ip', 'mine'))
print(run('sysctl', '-w', 'net.ipv4.ip_forward=1') != 0, run('mount', '-t', 'sysfs', 'x', '/mnt') != 0)
print(run('nsenter', '--net=/proc/1/ns/net', 'true') != 0, run('unshare', '-n', 'true') != 0)
print(run('ip', 'link', 'set', 'own0', 'netns', '1') == 0)
print(run('nft', 'flush', 'ruleset'))
print(answer(s.socket(), ('{0}', 9080)).split()[0], run('nft', 'delete', 'table', 'ip', 'ironmesh') == 0, run('nft', 'add', 'rule', 'ip', 'ironmesh', 'output', 'accept') == 0)
print(run('nft', 'add table ip first; add chain ip first out {{ type nat hook output priority -101; }}; add rule ip first out dnat to {0}'))
print(answer(s.socket(), ('{0}', 9080)).split()[:4:2])
tried(open, '/proc/sys/net/ipv4/conf/all/route_localnet', 'w')
run('ip', 'route', 'add', '127.0.0.0/8', 'via', '{GATEWAY}', 'table', 'main')
run('ip', 'route', 'del', 'local', '127.0.0.0/8', 'dev', 'lo', 'table', 'local')
c = s.socket(); c.settimeout(0.5)
try: print(c.connect(('127.0.0.1', 9090)))
except OSError as e: print('nothing')
",
        plain.sandbox.ip()
    );
    let Some(output) = python(&meshed, world, &script) else { return };
    let own = meshed.sandbox.ip();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["0 0", "0 0"], "{output}");
    assert!(["0 0", "0 absent", "absent 0"].contains(&lines[2]), "{output}");
    assert_eq!(lines[3..5], ["True True", "True True"], "{output}");
    if lines[6] == "0" {
        assert_eq!(lines[7..9], ["outbound False False", "0"], "{output}");
        assert_eq!(lines[9], format!("['plain', '{own}']"), "{output}");
    }
    assert_eq!(lines[10], "nothing", "{output}");
    // Neither the other pod's rules nor the mesh's have changed.
    let again = traffic::meshed(world);
    let captured = crate::world::answer(again.connect(SocketAddrV4::new(plain.sandbox.ip(), 9080)));
    assert!(captured.starts_with("outbound"), "{captured}");
}

/// A container that listens to all there is sees nothing of what others send.
pub(crate) fn sniffing(world: &World) {
    let (hostile, one, two) = (world.pod(), world.pod(), world.pod());
    two.serve("two", SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9080));
    hostile.serve("hostile", SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9080));
    let script = "
wire = s.socket(s.AF_PACKET, s.SOCK_RAW, s.htons(3))
SOL_PACKET, ADD, PROMISCUOUS = 263, 1, 1
wire.setsockopt(SOL_PACKET, ADD, struct.pack('iHH8s', s.if_nametoindex('eth0'), PROMISCUOUS, 0, b''))
print('listening', flush=True)
seen = set()
while True:
    frame = wire.recv(2000)
    if frame[12:14] == b'\\x08\\x00':
        seen |= {s.inet_ntoa(frame[26:30]), s.inet_ntoa(frame[30:34])}
        if b'hostile' in frame: break
print(sorted(seen))
";
    if !Path::new("/usr/bin/python3").exists() {
        println!("SKIPPED: python3 is not installed");
        return;
    }
    let script = format!("{PRELUDE}{script}");
    let spec = with(&hostile, world, USUAL, &["/usr/bin/python3", "-c", &script]);
    let mut running = hostile.start(&spec).unwrap();
    running.await_output("listening");
    let talk =
        |to: &Pod| crate::world::answer(one.connect(SocketAddrV4::new(to.sandbox.ip(), 9080)));
    assert!(talk(&two).starts_with("two"));
    assert!(talk(&hostile).starts_with("hostile"));
    let output = running.finish().output;
    let expected = format!("['{}', '{}']", hostile.sandbox.ip(), one.sandbox.ip());
    assert!(output.contains(&expected), "{output}");
}
