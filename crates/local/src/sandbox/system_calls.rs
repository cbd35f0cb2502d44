//! Which system calls of the kernel a container reaches: those that container runtimes allow, by the
//! capabilities that it has. Two things more are refused, so that an application is never taken for its
//! pod's proxy: to become the user that stands for the proxy, and, where there is a single user, to mark
//! a socket.
//!
//! Three filters, of which the strictest answer holds: calls that are refused (EPERM), calls that the
//! C library does without (ENOSYS), and calls newer than this list, or of another table (x32), which
//! nobody has looked at (ENOSYS). Programs of another architecture than the machine's are killed.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

use super::SandboxError;
use super::capabilities::{SYS_CHROOT, SYS_PTRACE};
use super::users::PROXY_USER;

/// Confines this process, and all that it executes, for good. It must have no-new-privileges.
/// `capabilities` are those that the program may have, a bit each.
pub(crate) fn confine(capabilities: u32, is_only_user: bool) -> Result<(), SandboxError> {
    let failed = |error: &dyn std::fmt::Display| SandboxError::new("limit", error, 0);
    let refused = refused(capabilities, is_only_user);
    for (rules, errno) in [(refused, libc::EPERM), (absent(), libc::ENOSYS)] {
        let rules = rules.map_err(|error| failed(&error))?;
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
        let action = SeccompAction::Errno(errno as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
        let program = filter.and_then(BpfProgram::try_from).map_err(|error| failed(&error))?;
        apply_filter(&program).map_err(|error| failed(&error))?;
    }
    apply_filter(&newer()).map_err(|error| failed(&error))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that reach the whole machine, or parts of the kernel that applications have no use for.
fn refused(capabilities: u32, is_only_user: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    for (capability, calls) in ALLOWED_BY {
        if capabilities & 1 << capability != 0 {
            rules.retain(|call, _| !calls.contains(call));
        }
    }
    for (call, arguments) in CHANGES_OF_USER {
        let to_proxy = (0..arguments).map(|argument| rule(&[(argument, PROXY_USER)]));
        rules.insert(call, to_proxy.collect::<Result<_, _>>()?);
    }
    if is_only_user {
        let mark = rule(&[(1, libc::SOL_SOCKET as u32), (2, libc::SO_MARK as u32)])?;
        rules.insert(libc::SYS_setsockopt, vec![mark]);
    }
    let bits = |bit: libc::c_int| {
        let bit = u64::from(bit as u32);
        let set = SeccompCmpOp::MaskedEq(bit);
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, set, bit)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(bits).collect::<Result<_, _>>()?);
    let other =
        |known: &u64| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *known);
    let personality = PERSONALITIES.iter().map(other).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(personality)?]);
    rules.insert(libc::SYS_socket, vec![rule(&[(0, libc::AF_VSOCK as u32)])?]);
    Ok(rules)
}

/// A rule for calls in which these arguments, by number, are all these.
fn rule(arguments: &[(u8, u32)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let is = |(number, value): &(u8, u32)| {
        let value = u64::from(*value);
        SeccompCondition::new(*number, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    SeccompRule::new(arguments.iter().map(is).collect::<Result<_, _>>()?)
}

/// Calls that the C library tries first: the flags of `clone3` are out of a filter's sight.
fn absent() -> Result<Rules, seccompiler::BackendError> {
    Ok([(libc::SYS_clone3, Vec::new())].into())
}

/// A filter for numbers above those that this list knows.
fn newer() -> BpfProgram {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    vec![
        // The call's number is the first field of what a filter sees.
        instruction((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        instruction((libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16, 0, 1, KNOWN_MAX),
        instruction((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, refuse),
        instruction((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// `removexattrat` of Linux 6.13, the last call of the table that was looked at.
const KNOWN_MAX: u32 = 466;

/// Flags of `clone` that make namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// What `personality` may be asked for: Linux, 32 bits, old version numbers, both, and to tell.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

// Calls without a name in `libc`; their numbers are the same everywhere.
const SYS_SET_MEMPOLICY_HOME_NODE: i64 = 450;
const SYS_STATMOUNT: i64 = 457;
const SYS_LISTMOUNT: i64 = 458;

/// Calls by which a process becomes another user, and in how many arguments they name one.
const CHANGES_OF_USER: [(i64, u8); 4] = [
    (libc::SYS_setuid, 1),
    (libc::SYS_setreuid, 2),
    (libc::SYS_setresuid, 3),
    (libc::SYS_setfsuid, 1),
];

/// What capabilities allow of [`REFUSED`], as that profile has it.
const ALLOWED_BY: [(u32, &[i64]); 2] = [
    (SYS_CHROOT, &[libc::SYS_chroot]),
    (SYS_PTRACE, &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
];

/// As the default profile of container runtimes (Docker's `default.json`) refuses them to a program
/// without capabilities.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    SYS_LISTMOUNT,
    SYS_SET_MEMPOLICY_HOME_NODE,
    SYS_STATMOUNT,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];
