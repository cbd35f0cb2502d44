use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::messages::{Failed, ServerSays, ToClient};

type Ends = Connection<tokio::io::DuplexStream, ToClient, ToClient>;

fn says(why: &str) -> ToClient {
    ToClient { says: Some(ServerSays::Failed(Failed { why: why.to_owned() })) }
}

async fn received(end: &mut Ends) -> Result<ToClient, FrameError> {
    loop {
        if let Happened::Received(message) = end.next().await? {
            return Ok(message);
        }
    }
}

#[tokio::test]
async fn messages_arrive_whole_and_in_order_through_a_narrow_pipe() {
    let (near, far) = duplex(3);
    let (mut near, mut far) = (Ends::new(near, 1 << 20), Ends::new(far, 1 << 20));
    let texts = ["", "one", &"long ".repeat(1_000), "last"];
    let send = async {
        for text in texts {
            near.send(&says(text)).unwrap();
        }
        near.flush().await.unwrap();
        near
    };
    let receive = async {
        for text in texts {
            assert_eq!(received(&mut far).await.unwrap(), says(text));
        }
    };
    let (near, ()) = tokio::join!(send, receive);
    drop(near);
    assert!(matches!(received(&mut far).await, Err(FrameError::Closed)));
}

#[tokio::test]
async fn two_ends_that_both_send_much_do_not_wait_for_each_other() {
    let (near, far) = duplex(64);
    let (mut near, mut far) = (Ends::new(near, 1 << 20), Ends::new(far, 1 << 20));
    let big = says(&"x".repeat(100_000));
    near.send(&big).unwrap();
    far.send(&big).unwrap();
    let (a, b) = tokio::join!(
        async {
            let message = received(&mut near).await.unwrap();
            near.flush().await.unwrap();
            message
        },
        async {
            let message = received(&mut far).await.unwrap();
            far.flush().await.unwrap();
            message
        }
    );
    assert_eq!((&a, &b), (&big, &big));
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_neither_sent_nor_awaited() {
    let (near, mut far) = duplex(1 << 10);
    let mut near = Ends::new(near, 100);
    assert!(matches!(
        near.send(&says(&"x".repeat(101))),
        Err(FrameError::TooLarge { max: 100, .. })
    ));
    assert!(near.is_flushed(), "nothing of it was queued");
    far.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(matches!(received(&mut near).await, Err(FrameError::TooLarge { .. })));
}

#[tokio::test]
async fn what_is_no_message_is_an_error() {
    let (near, mut far) = duplex(1 << 10);
    let mut near = Ends::new(near, 100);
    far.write_all(&[0, 0, 0, 2, 0xff, 0xff]).await.unwrap();
    assert!(matches!(received(&mut near).await, Err(FrameError::Malformed(_))));
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let (near, mut far) = duplex(1 << 10);
    let mut near = Ends::new(near, 1 << 10);
    let mut bytes = Vec::new();
    let message = says("in two pieces");
    bytes.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut bytes).unwrap();
    let (first, second) = bytes.split_at(7);
    far.write_all(first).await.unwrap();
    tokio::select! {
        biased;
        _ = near.next() => panic!("the message is not complete"),
        () = std::future::ready(()) => {}
    }
    far.write_all(second).await.unwrap();
    assert_eq!(received(&mut near).await.unwrap(), message);
    far.shutdown().await.unwrap();
    let mut rest = Vec::new();
    drop(near);
    far.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
