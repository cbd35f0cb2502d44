//! Netlink, as much of it as the mesh needs: messages, batches, and errors that name the message.
//!
//! A [`Batch`] is built first and sent in one system call; the kernel takes its messages in order.
//! The messages of nf_tables are beside the rules that they carry; who makes links and routes writes
//! theirs with [`Payload`].

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::KernelError;

/// A kernel subsystem that is spoken to by netlink.
#[derive(Clone, Copy, Debug)]
pub enum Subsystem {
    /// Links, addresses, routes.
    Route,
    /// nf_tables.
    Netfilter,
}

/// Messages that are sent together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    steps: Vec<MessageStep>,
    /// Where the last message begins.
    last: usize,
}

/// What a message does, for its error.
#[derive(Debug)]
struct MessageStep {
    step: &'static str,
    object: String,
    acknowledged: bool,
}

/// Writes the payload of a message: fixed structures and attributes.
#[derive(Debug)]
pub struct Payload<'a>(&'a mut Vec<u8>);

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message that the kernel is to acknowledge. `step` and `object` name it in errors:
    /// "cannot `create interface` `v7`".
    pub fn push(
        &mut self,
        kind: u16,
        flags: i32,
        (step, object): (&'static str, impl Into<String>),
        fill: impl FnOnce(&mut Payload<'_>),
    ) {
        let step = MessageStep { step, object: object.into(), acknowledged: true };
        self.message(kind, flags | libc::NLM_F_ACK, step, fill);
    }

    /// Adds a message that is answered only if it fails.
    pub fn push_silent(
        &mut self,
        kind: u16,
        flags: i32,
        (step, object): (&'static str, impl Into<String>),
        fill: impl FnOnce(&mut Payload<'_>),
    ) {
        let step = MessageStep { step, object: object.into(), acknowledged: false };
        self.message(kind, flags, step, fill);
    }

    /// Has the kernel acknowledge the message that was added last.
    pub fn acknowledge_last(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.acknowledged = true;
            let flags = &mut self.bytes[self.last + 6..self.last + 8];
            let set = u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16;
            flags.copy_from_slice(&set.to_ne_bytes());
        }
    }

    /// The bytes that are sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn message(
        &mut self,
        kind: u16,
        flags: i32,
        step: MessageStep,
        fill: impl FnOnce(&mut Payload<'_>),
    ) {
        let start = self.bytes.len();
        self.last = start;
        self.steps.push(step);
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let sequence = self.steps.len() as u32;
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        fill(&mut Payload(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        pad(&mut self.bytes);
    }
}

impl Payload<'_> {
    /// Bytes as they are, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        pad(self.0);
        self
    }

    /// An attribute of these bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.raw(value)
    }

    /// An attribute of one number in the machine's byte order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// An attribute of one number in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute of text, ended by a zero byte.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// An attribute that consists of what `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Payload<'_>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend(0_u16.to_ne_bytes());
        self.0.extend((kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        fill(&mut Payload(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// A netlink socket of the network namespace that the calling thread was in when it was made.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Opens one.
    pub fn open(subsystem: Subsystem) -> Result<Self, KernelError> {
        Self::try_open(subsystem).map_err(|errno| {
            KernelError::new("open", format!("a netlink socket ({subsystem:?})"), errno as i32)
        })
    }

    /// Sends a batch and awaits its acknowledgements.
    pub fn transact(&self, batch: &Batch) -> Result<(), KernelError> {
        let last = batch.steps.iter().rposition(|step| step.acknowledged);
        let Some(last) = last.map(|index| index as u32 + 1) else { return Ok(()) };
        // A batch is one packet; the buffer must hold it. Who may not exceed the limit of the
        // machine gets as much as it allows.
        let room = batch.bytes.len() * 2;
        if room > DEFAULT_BUFFER_BYTES && setsockopt(&self.0, sockopt::SndBufForce, &room).is_err()
        {
            setsockopt(&self.0, sockopt::SndBuf, &room).map_err(exchange)?;
        }
        send(self.0.as_raw_fd(), &batch.bytes, MsgFlags::empty()).map_err(exchange)?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let count =
                recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(exchange)?;
            if read_answers(&buffer[..count], batch, last)? {
                return Ok(());
            }
        }
    }

    fn try_open(subsystem: Subsystem) -> nix::Result<Self> {
        let protocol = match subsystem {
            Subsystem::Route => SockProtocol::NetlinkRoute,
            Subsystem::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        set_netlink_option(&fd, libc::NETLINK_CAP_ACK)?;
        set_netlink_option(&fd, libc::NETLINK_EXT_ACK)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_SECONDS_MAX, 0))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(fd))
    }
}

fn exchange(errno: nix::Error) -> KernelError {
    KernelError::new("exchange netlink messages with", "the kernel", errno as i32)
}

/// Reads acknowledgements; true once the last one came.
fn read_answers(mut bytes: &[u8], batch: &Batch, last: u32) -> Result<bool, KernelError> {
    while let Some(header) = bytes.first_chunk::<MESSAGE_HEADER>() {
        let length = number(header, 0) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = number(header, 8);
        let Some(body) = bytes.get(MESSAGE_HEADER..length) else { break };
        if i32::from(kind) == libc::NLMSG_ERROR && body.len() >= 4 {
            let errno = (number(body, 0) as i32).wrapping_neg();
            if errno != 0 {
                return Err(failure(batch, sequence, errno, kernel_message(body)));
            }
            if sequence == last {
                return Ok(true);
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn failure(batch: &Batch, sequence: u32, errno: i32, detail: Option<String>) -> KernelError {
    let step = (sequence as usize).checked_sub(1).and_then(|index| batch.steps.get(index));
    let (step, object) = step.map_or(("send", ""), |step| (step.step, step.object.as_str()));
    let object = match detail {
        Some(detail) => format!("{object} ({detail})"),
        None => object.to_owned(),
    };
    KernelError::new(step, object, errno)
}

/// The explanation that newer kernels add: an attribute after the error and the failed header.
fn kernel_message(body: &[u8]) -> Option<String> {
    let mut rest = body.get(4 + MESSAGE_HEADER..)?;
    while rest.len() >= ATTRIBUTE_HEADER {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        if kind == NLMSGERR_ATTR_MSG {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(value)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[expect(unsafe_code, reason = "nix has no netlink socket options")]
fn set_netlink_option(fd: &OwnedFd, option: libc::c_int) -> nix::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` lives through the call, and `size` is its size.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast::<libc::c_void>(),
            size,
        )
    };
    nix::Error::result(result).map(drop)
}

/// `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// Attribute with the kernel's explanation of an error.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// What a netlink socket sends without asking for more.
const DEFAULT_BUFFER_BYTES: usize = 200_000;
/// One receive; acknowledgements are a few dozen bytes each.
const RECEIVE_BYTES: usize = 32 << 10;
/// The kernel answers at once; this only keeps a bug from being a hang.
const ANSWER_SECONDS_MAX: i64 = 10;
