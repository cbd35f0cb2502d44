//! Bytes carried both ways between two connections, so that the end of one way is not the end of the other.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink, split};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Carries bytes both ways until both have ended.
///
/// A side that takes nothing more may have answered before: what it said still gets to the other side,
/// which meanwhile can send what it likes, for nobody, and has some time to hear of it.
pub async fn both_ways<A, B>(a: &mut A, b: &mut B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let ((mut from_a, mut to_a), (mut from_b, mut to_b)) = (split(a), split(b));
    let (up, down) = (Notify::new(), Notify::new());
    tokio::join!(
        one_way(&mut from_a, &mut to_b, &up, &down),
        one_way(&mut from_b, &mut to_a, &down, &up),
    );
}

/// Carries bytes one way, and tells when there are no more for who takes them.
async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    ended: &Notify,
    other: &Notify,
) {
    let is_taken = pass(from, to).await;
    // Who has broken off already needs no end.
    let _ = to.shutdown().await;
    ended.notify_one();
    if !is_taken {
        // Closed with something unread, a connection is reset, and what its peer has not read yet is lost.
        let answered = async {
            other.notified().await;
            sleep(LINGER).await;
        };
        let mut nobody = sink();
        tokio::select! {
            _ = copy(from, &mut nobody) => {}
            () = answered => {}
        }
    }
}

/// Passes bytes on to the end of what comes; whether all were taken.
async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> bool {
    let mut buffer = vec![0; PIECE_BYTES];
    // What breaks off has ended.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            return false;
        }
    }
    true
}

/// Bytes that are handed on at once.
const PIECE_BYTES: usize = 16 << 10;
/// How long somebody may go on sending to who takes nothing more, once it has all that was answered.
const LINGER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Two ends of a TCP connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_answers_before_all_has_come_is_heard() {
        for _ in 0..100 {
            let ((mut client, mut a), (mut b, mut server)) = (pair().await, pair().await);
            let carried = tokio::spawn(async move { both_ways(&mut a, &mut b).await });
            let served = tokio::spawn(async move {
                let mut head = [0; 16];
                server.read_exact(&mut head).await.unwrap();
                server.write_all(b"too large").await.unwrap();
                // With unread bytes: that is a reset.
            });
            let (mut reading, mut writing) = client.split();
            let sends = async {
                // It is taken whole, whoever it is for.
                writing.write_all(&vec![b'x'; 4 << 20]).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            let mut answer = Vec::new();
            let (_, answered) = tokio::join!(sends, reading.read_to_end(&mut answer));
            assert_eq!((answered.unwrap(), &*answer), (9, &b"too large"[..]));
            served.await.unwrap();
            carried.await.unwrap();
        }
    }

    #[tokio::test]
    async fn halves_end_alone() {
        let ((mut client, mut a), (mut b, mut server)) = (pair().await, pair().await);
        let carried = tokio::spawn(async move { both_ways(&mut a, &mut b).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        all.clear();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"answer");
        carried.await.unwrap();
    }

    #[tokio::test]
    async fn who_sends_for_ever_to_nobody_is_left() {
        let ((mut client, mut a), (mut b, server)) = (pair().await, pair().await);
        let carried = tokio::spawn(async move { both_ways(&mut a, &mut b).await });
        drop(server);
        let piece = vec![0; 1 << 16];
        while client.write_all(&piece).await.is_ok() {}
        carried.await.unwrap();
    }
}
