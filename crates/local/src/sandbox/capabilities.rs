//! Capabilities of this process: to be asked for, and given up for good.

use nix::sys::prctl;

use super::SandboxError;
use super::error::AtStep;

/// CAP_KILL: to signal processes of other users.
pub(crate) const KILL: u32 = 5;
/// CAP_NET_RAW: to mark sockets, among others.
pub(crate) const NET_RAW: u32 = 13;
/// CAP_SYS_ADMIN: to make namespaces and mounts.
pub(crate) const SYS_ADMIN: u32 = 21;

/// CAP_SYS_CHROOT: to change the root directory.
pub(crate) const SYS_CHROOT: u32 = 18;
/// CAP_SYS_PTRACE: to look into processes of other users.
pub(crate) const SYS_PTRACE: u32 = 19;

/// Those of a container whose manifest says nothing, as container runtimes have it.
pub(crate) const USUAL: u32 = mask(&[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
]);

/// Those that a container may be given at all: what they allow, they allow in the pod's own
/// namespaces.
pub(crate) const GRANTABLE: u32 = USUAL
    | mask(&["DAC_READ_SEARCH", "NET_BROADCAST", "NET_ADMIN", "IPC_OWNER", "SYS_PTRACE", "LEASE"]);

/// Names by number; all that a container may be given are below 32.
const NAMES: [&str; 32] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
];

/// The capabilities of these names, a bit each; fails to compile with another name.
const fn mask(names: &[&str]) -> u32 {
    let (mut mask, mut at) = (0, 0);
    while at < names.len() {
        let mut number = 0;
        while !same(NAMES[number].as_bytes(), names[at].as_bytes()) {
            number += 1;
        }
        mask |= 1 << number;
        at += 1;
    }
    mask
}

/// Whether two names are the same.
const fn same(one: &[u8], two: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < two.len() && one[at] == two[at] {
        at += 1;
    }
    at == one.len() && at == two.len()
}

/// The capabilities of a container, a bit each, by what its manifest adds and drops, with or without
/// `CAP_`: as containerd has it, `ALL` comes before single names, and what is dropped by name stays
/// dropped.
pub(crate) fn of_container(add: &[String], drop: &[String]) -> u32 {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let bits = |names: &[String]| names.iter().fold(0, |mask, name| mask | bit(name));
    let mut given = if add.iter().any(is_all) { GRANTABLE } else { USUAL };
    if drop.iter().any(is_all) {
        given = 0;
    }
    (given | bits(add)) & !bits(drop) & GRANTABLE
}

/// The bit of a capability; 0 if a container cannot have it.
fn bit(name: &str) -> u32 {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|known| *known == name).map_or(0, |number| 1 << number)
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`, of which version 3 takes two: low and high 32 bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Whether this capability is effective.
pub(crate) fn has(capability: u32) -> bool {
    read().is_ok_and(|halves| halves[0].effective & (1 << capability) != 0)
}

/// Gives up every capability but these (numbers below 32), so that no `exec` brings one back: the
/// bounding set, the process's own sets, and no-new-privileges. With `ambient` those kept survive
/// `exec`.
///
/// Clearing the process's sets alone would not do: an exec as uid 0 fills them again.
pub(crate) fn keep_only(kept: &[u32], ambient: bool) -> Result<(), SandboxError> {
    let mask = kept.iter().fold(0, |mask, capability| mask | 1_u32 << capability);
    let inheritable = if ambient { mask } else { 0 };
    limit(mask, Half { effective: mask, permitted: mask, inheritable })
}

/// Leaves a program these capabilities, a bit each, as container runtimes do: user 0 has them, another
/// user has none.
pub(crate) fn leave_program(bounding: u32, is_root: bool) -> Result<(), SandboxError> {
    let held = if is_root { bounding } else { 0 };
    limit(bounding, Half { effective: held, permitted: held, inheritable: 0 })
}

/// Makes what is permitted effective: a change of user leaves it so, but not effective.
pub(crate) fn use_permitted() -> nix::Result<()> {
    let whole = read()?;
    write(whole.map(|half| Half { effective: half.permitted, ..half }))
}

fn limit(bounding: u32, held: Half) -> Result<(), SandboxError> {
    prctl::set_no_new_privs().step("set", "no-new-privileges")?;
    set(bounding, held).step("give up", "capabilities")
}

#[expect(unsafe_code, reason = "the prctl of capabilities has no wrapper")]
fn set(bounding: u32, held: Half) -> nix::Result<()> {
    // The bounding set needs one that is effective.
    use_permitted()?;
    for capability in 0..=LAST_MAX {
        if capability < u32::BITS && bounding & 1 << capability != 0 {
            continue;
        }
        let number = libc::c_ulong::from(capability);
        // SAFETY: takes numbers alone.
        match nix::Error::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            Ok(_) => {}
            // Beyond the kernel's last capability.
            Err(nix::Error::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    write([held, Half::default()])?;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: takes numbers alone.
    nix::Error::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) })?;
    for capability in (0..u32::BITS).filter(|number| held.inheritable & 1 << number != 0) {
        let (raise, number) =
            (libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, libc::c_ulong::from(capability));
        // SAFETY: takes numbers alone.
        nix::Error::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) })?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "capget has no wrapper")]
fn read() -> nix::Result<[Half; 2]> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: header and data are those of version 3, and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    nix::Error::result(result).map(|_| halves)
}

#[expect(unsafe_code, reason = "capset has no wrapper")]
fn write(halves: [Half; 2]) -> nix::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: header and data are those of version 3, and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    nix::Error::result(result).map(drop)
}

const VERSION_3: u32 = 0x2008_0522;
/// More than any kernel knows.
const LAST_MAX: u32 = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_added_and_dropped_as_containerd_does() {
        let of = |add: &[&str], drop: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let (add, drop): (Vec<_>, Vec<_>) = (words(add), words(drop));
            of_container(&add, &drop)
        };
        assert_eq!(of(&[], &[]), 0xa804_25fb);
        assert_eq!(of(&["NET_ADMIN"], &[]), 0xa804_25fb | 1 << 12);
        assert_eq!(of(&["cap_net_admin"], &["ALL"]), 1 << 12);
        assert_eq!(of(&[], &["all"]), 0);
        assert_eq!(of(&["CHOWN"], &["CHOWN"]), 0xa804_25fb & !1);
        assert_eq!(of(&["ALL"], &["NET_RAW"]), GRANTABLE & !(1 << NET_RAW));
        // What reaches the whole machine is nobody's, however it is asked for.
        for name in ["SYS_ADMIN", "CAP_SYS_MODULE", "SYS_TIME", "SYS_RESOURCE", "BPF", "NONE"] {
            assert_eq!(of(&[name], &["ALL"]), 0, "{name}");
            assert_eq!(of(&["ALL"], &[]) & bit(name), 0, "{name}");
        }
    }

    #[test]
    fn what_is_not_given_is_found_and_what_is_given_is_not() {
        use ironmesh_dialects::kubernetes::capabilities::why_not;
        for (number, name) in NAMES.iter().enumerate() {
            // Some that everybody has are good for nothing here.
            let is_useless = ["MKNOD", "AUDIT_WRITE"].contains(name);
            let is_given = GRANTABLE & 1 << number != 0 && !is_useless;
            assert_eq!(why_not(name).is_none(), is_given, "{name}");
        }
    }
}
