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

/// Those over files that a program may have in the user namespace of its container: CAP_CHOWN,
/// CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID. The kernel heeds them only for files whose owner and group are
/// users of that namespace.
pub(crate) const OF_FILES: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4;

/// The bit of a capability that a program may have, by its name with or without `CAP_`.
pub(crate) fn bit(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let number = match name.strip_prefix("CAP_").unwrap_or(&name) {
        "CHOWN" => 0,
        "DAC_OVERRIDE" => 1,
        "FOWNER" => 3,
        "FSETID" => 4,
        _ => return None,
    };
    Some(1 << number)
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
    prctl::set_no_new_privs().step("set", "no-new-privileges")?;
    limit(kept, ambient).step("give up", "capabilities")
}

#[expect(unsafe_code, reason = "the prctl of capabilities has no wrapper")]
fn limit(kept: &[u32], ambient: bool) -> nix::Result<()> {
    // A change of user leaves them permitted, but not effective; the bounding set needs one.
    let whole = read()?;
    write(whole.map(|half| Half { effective: half.permitted, ..half }))?;
    for capability in 0..=LAST_MAX {
        if kept.contains(&capability) {
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
    let mask = kept.iter().fold(0, |mask, capability| mask | 1_u32 << capability);
    let inheritable = if ambient { mask } else { 0 };
    let low = Half { effective: mask, permitted: mask, inheritable };
    write([low, Half::default()])?;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: takes numbers alone.
    nix::Error::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) })?;
    for capability in kept.iter().filter(|_| ambient) {
        let (raise, number) =
            (libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, libc::c_ulong::from(*capability));
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
