//! Questions of the control plane about the proxy itself, and the answers on their way.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use ironmesh_model::group::GroupReport;
use tokio::sync::{mpsc, oneshot};

use crate::codec::{PIECE_BYTES_MAX, answer_bytes, report_bytes};
use crate::messages::{About, Ask, Told};

/// A question about the groups of the proxy.
#[derive(Debug)]
pub struct Question {
    /// The hosts of the services that it is about; none: all.
    pub hosts: Vec<String>,
    /// Takes the answer. One that comes after the connection has ended is dropped.
    pub answer: oneshot::Sender<Vec<GroupReport>>,
}

/// The questions of one connection.
#[derive(Debug)]
pub(super) struct Questions {
    /// Who answers; `None`: nobody.
    to: Option<mpsc::Sender<Question>>,
    /// Answers that are awaited.
    asked: Vec<(u64, oneshot::Receiver<Vec<GroupReport>>)>,
    questions_max: usize,
    answer_bytes_max: usize,
}

impl Questions {
    pub(super) fn new(
        to: Option<mpsc::Sender<Question>>,
        questions_max: usize,
        answer_bytes_max: usize,
    ) -> Self {
        Self { to, asked: Vec::new(), questions_max, answer_bytes_max }
    }

    /// Passes a question on; an answer at once if nobody will give one.
    pub(super) fn ask(&mut self, Ask { id, about }: Ask) -> Option<Told> {
        let refused = |why: &str| Some(Told { id, refused: why.to_owned(), ..Told::default() });
        let Some(About::Groups(about)) = about else {
            return refused("the proxy does not know what it is asked; restart its workload");
        };
        let Some(to) = &self.to else { return refused("nobody answers for the proxy") };
        let (answer, answered) = oneshot::channel();
        let question = Question { hosts: about.hosts, answer };
        if self.asked.len() >= self.questions_max || to.try_send(question).is_err() {
            return refused("the proxy has too many questions");
        }
        self.asked.push((id, answered));
        None
    }

    /// Waits for an answer, and gives it in parts. Cancel safe.
    pub(super) async fn answered(&mut self) -> Vec<Told> {
        let (id, groups) = poll_fn(|cx| {
            for (at, (_, answered)) in self.asked.iter_mut().enumerate() {
                if let Poll::Ready(groups) = Pin::new(answered).poll(cx) {
                    return Poll::Ready((self.asked.swap_remove(at).0, groups));
                }
            }
            Poll::Pending
        })
        .await;
        match groups {
            Ok(groups) => parts(id, groups, self.answer_bytes_max),
            Err(_) => {
                let refused = "the proxy gives no answer".to_owned();
                vec![Told { id, refused, ..Told::default() }]
            }
        }
    }
}

/// An answer in parts of a bounded size, together no more than `bytes_max`: what has no room is left
/// out, and how much that is stands in the last part.
fn parts(id: u64, groups: Vec<GroupReport>, bytes_max: usize) -> Vec<Told> {
    let mut parts = vec![Told { id, more: true, ..Told::default() }];
    let (mut bytes, mut part_bytes, mut left_out) = (0, 0, 0);
    for report in groups.iter().flat_map(pieces) {
        let piece = report_bytes(&report);
        let more = answer_bytes(&piece, &report);
        if left_out > 0 || bytes + more > bytes_max || piece.len() > PIECE_BYTES_MAX {
            left_out += report.members.len() as u64;
            continue;
        }
        bytes += more;
        if part_bytes > 0 && part_bytes + piece.len() > PART_BYTES {
            parts.push(Told { id, more: true, ..Told::default() });
            part_bytes = 0;
        }
        part_bytes += piece.len();
        if let Some(part) = parts.last_mut() {
            part.groups.push(piece);
        }
    }
    if let Some(last) = parts.last_mut() {
        (last.more, last.left_out) = (false, left_out);
    }
    parts
}

/// A group in pieces of a few endpoints each.
fn pieces(group: &GroupReport) -> impl Iterator<Item = GroupReport> {
    let one = group.members.is_empty().then_some(&[][..]);
    group.members.chunks(MEMBERS_PER_PIECE).chain(one).map(|members| {
        let (key, usage) = (group.key.clone(), group.usage);
        GroupReport { key, usage, members: members.to_vec() }
    })
}

/// Bytes of one message of an answer, beyond which the next begins: so that what else is to be said
/// does not wait for long.
const PART_BYTES: usize = 32 << 10;

/// Endpoints of one piece; with names of the longest kind still below [`PIECE_BYTES_MAX`].
const MEMBERS_PER_PIECE: usize = 32;
