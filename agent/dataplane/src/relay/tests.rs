use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::worker::Settings;

fn worker() -> Worker {
    Worker::new(Settings::default(), tokio::sync::mpsc::channel(1).0, Default::default())
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Runs a relay between a client and a server that do as told.
fn between<C: Future, S: Future>(
    worker: &Worker,
    limits: Limits,
    client: impl FnOnce(TcpStream) -> C,
    server: impl FnOnce(TcpStream) -> S,
) -> Relayed {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ((client_end, mut downstream), (mut upstream, server_end)) =
            (connected().await, connected().await);
        let deadline = worker.timers.register();
        let relaying = async {
            let mut relay = Relay::new(&mut downstream, &mut upstream, None);
            let ended = relay.run(worker, (1, &deadline), limits, |_| {}).await;
            drop((downstream, upstream));
            ended
        };
        let (ended, ..) = tokio::join!(relaying, client(client_end), server(server_end));
        ended
    })
}

/// Bytes that differ everywhere, so that a piece lost, repeated or moved shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len / 4).flat_map(|i| u32::try_from(i).unwrap().to_le_bytes()).collect()
}

const BULK_BYTES: usize = 8 * 1024 * 1024;

#[test]
fn bulk_arrives_whole_through_a_pipe_and_half_closes() {
    let worker = worker();
    let client = async |mut stream: TcpStream| {
        stream.write_all(&pattern(BULK_BYTES)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"thanks");
    };
    let server = async |mut stream: TcpStream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received == pattern(BULK_BYTES), "{} bytes, not as sent", received.len());
        stream.write_all(b"thanks").await.unwrap();
    };
    let (transferred, result) = between(&worker, Limits::default(), client, server);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(transferred, Transferred { received: BULK_BYTES as u64, sent: 6 });
    assert_eq!(worker.pipes.open_now(), 1);
}

#[test]
fn a_server_that_closes_its_side_first_still_gets_bulk() {
    let worker = worker();
    let client = async |mut stream: TcpStream| {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer == pattern(BULK_BYTES), "{} bytes, not as sent", answer.len());
        stream.write_all(&pattern(BULK_BYTES)).await.unwrap();
    };
    let server = async |mut stream: TcpStream| {
        stream.write_all(&pattern(BULK_BYTES)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received == pattern(BULK_BYTES), "{} bytes, not as sent", received.len());
    };
    let (transferred, result) = between(&worker, Limits::default(), client, server);
    assert!(result.is_ok(), "{result:?}");
    let whole = BULK_BYTES as u64;
    assert_eq!(transferred, Transferred { received: whole, sent: whole });
}

/// What waits for it is what pipe and sockets hold; after its time the connection ends for both sides.
#[test]
fn a_receiver_that_never_reads_is_let_go() {
    let worker = std::rc::Rc::new(worker());
    let ticking = std::rc::Rc::clone(&worker);
    let client = async |mut stream: TcpStream| {
        let bulk = vec![7; 1024 * 1024];
        let mut sent = 0;
        let mut pause = tokio::time::interval(Duration::from_millis(300));
        pause.tick().await;
        loop {
            tokio::select! {
                written = stream.write(&bulk) => match written {
                    Ok(written) => sent += written,
                    Err(_) => break,
                },
                // Nothing has moved since the last time.
                _ = pause.tick() => ticking.timers.tick(),
            }
        }
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
    };
    let server = async |stream: TcpStream| {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(stream);
    };
    let limits = Limits { idle: Some(Duration::from_secs(1)), duration: None };
    let (_, result) = between(&worker, limits, client, server);
    assert!(matches!(result, Err(RelayError::Idle)), "{result:?}");
}

#[test]
fn bulk_is_copied_when_there_is_no_pipe() {
    let worker = worker();
    let lent: Vec<_> = std::iter::from_fn(|| worker.pipes.lend()).collect();
    let client = async |mut stream: TcpStream| stream.write_all(&pattern(BULK_BYTES)).await.unwrap();
    let server = async |mut stream: TcpStream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received == pattern(BULK_BYTES), "{} bytes, not as sent", received.len());
    };
    let (_, result) = between(&worker, Limits::default(), client, server);
    assert!(result.is_ok(), "{result:?}");
    drop(lent);
}

#[test]
fn small_talk_never_takes_a_pipe() {
    let worker = worker();
    let client = async |mut stream: TcpStream| {
        let mut answer = [0; 1000];
        for _ in 0..2000 {
            stream.write_all(&[7; 1000]).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
        }
    };
    let server = async |mut stream: TcpStream| {
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    };
    let (transferred, _) = between(&worker, Limits::default(), client, server);
    assert_eq!(transferred.received, 2_000_000);
    assert_eq!(worker.pipes.open_now(), 0);
}

#[test]
fn a_receiver_that_stops_reading_holds_one_pipe_and_gets_everything_later() {
    let worker = worker();
    let client = async |mut stream: TcpStream| stream.write_all(&pattern(BULK_BYTES)).await.unwrap();
    let server = async |mut stream: TcpStream| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received == pattern(BULK_BYTES), "{} bytes, not as sent", received.len());
    };
    let (_, result) = between(&worker, Limits::default(), client, server);
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn a_relay_ends_when_it_was_silent_or_has_lasted_long_enough() {
    let second = Some(Duration::from_secs(1));
    for (limits, flag) in [
        (Limits { idle: second, duration: None }, "idle"),
        (Limits { idle: None, duration: second }, "expired"),
    ] {
        let worker = std::rc::Rc::new(worker());
        let ticking = std::rc::Rc::clone(&worker);
        let client = async |mut stream: TcpStream| {
            for _ in 0..3 {
                ticking.timers.tick();
                tokio::task::yield_now().await;
            }
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        };
        let server = async |mut stream: TcpStream| _ = stream.read(&mut [0]).await;
        let (_, result) = between(&worker, limits, client, server);
        match result {
            Err(RelayError::Idle) => assert_eq!(flag, "idle"),
            Err(RelayError::Expired) => assert_eq!(flag, "expired"),
            other => panic!("{flag}: {other:?}"),
        }
    }
}

/// Reads until the other side has ended: what came, and whether the end was a clean one.
async fn read_until_end(stream: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).await;
    (received, ended.err().map(|error| error.kind()))
}

/// One side says a part of what there is to say and is cut off, once the other has read that: a reset overtakes what is
/// under way. A clean end would let the part pass for the whole.
#[test]
fn who_reads_from_a_side_that_is_reset_sees_no_clean_end() {
    let sides = || {
        let (tell, told) = tokio::sync::oneshot::channel();
        let reader = async |mut stream: TcpStream| {
            let mut part = [0; 7];
            stream.read_exact(&mut part).await.unwrap();
            assert_eq!(&part, b"half of");
            tell.send(()).unwrap();
            let reset = Some(io::ErrorKind::ConnectionReset);
            assert_eq!(read_until_end(&mut stream).await, (Vec::new(), reset));
        };
        let speaker = async |mut stream: TcpStream| {
            stream.write_all(b"half of").await.unwrap();
            told.await.unwrap();
            stream.set_zero_linger().unwrap();
        };
        (reader, speaker)
    };
    let (reader, speaker) = sides();
    let (_, result) = between(&worker(), Limits::default(), reader, speaker);
    assert!(matches!(result, Err(RelayError::Upstream(_))), "{result:?}");
    let (reader, speaker) = sides();
    let (_, result) = between(&worker(), Limits::default(), speaker, reader);
    assert!(matches!(result, Err(RelayError::Downstream(_))), "{result:?}");
}

/// The kernel tells of a reset once: whoever hears of it by writing reads a clean end afterwards.
#[test]
fn a_reset_that_shows_while_writing_is_passed_on_too() {
    let (hand_over, handed_over) = tokio::sync::oneshot::channel();
    let server = async |mut stream: TcpStream| {
        stream.write_all(b"half of").await.unwrap();
        hand_over.send(stream).unwrap();
    };
    let client = async |mut stream: TcpStream| {
        let server = handed_over.await.unwrap();
        stream.read_exact(&mut [0; 7]).await.unwrap();
        // Nothing is waited for in between: the relay finds the bytes and the reset together.
        server.set_zero_linger().unwrap();
        drop(server);
        stream.try_write(b"more").unwrap();
        assert_eq!(read_until_end(&mut stream).await, (Vec::new(), Some(io::ErrorKind::ConnectionReset)));
    };
    let (_, result) = between(&worker(), Limits::default(), client, server);
    assert!(matches!(result, Err(RelayError::Upstream(_))), "{result:?}");
}

#[test]
fn a_server_that_has_said_everything_and_takes_no_more_is_heard_to_the_end() {
    let client = async |mut stream: TcpStream| {
        assert_eq!(read_until_end(&mut stream).await, (b"whole".to_vec(), None));
        // The first is answered with a reset, which the second finds.
        for _ in 0..2 {
            stream.write_all(b"more").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stream.shutdown().await.unwrap();
        assert_eq!(read_until_end(&mut stream).await, (Vec::new(), None));
    };
    let server = async |mut stream: TcpStream| stream.write_all(b"whole").await.unwrap();
    let (_, result) = between(&worker(), Limits::default(), client, server);
    assert!(matches!(result, Err(RelayError::Upstream(_))), "{result:?}");
}

/// It may stay half-closed for long.
#[test]
fn a_side_that_has_said_everything_gives_its_pipe_back() {
    let worker = worker();
    let pipes = std::rc::Rc::clone(&worker.pipes);
    let client = async |mut stream: TcpStream| {
        stream.write_all(&pattern(BULK_BYTES)).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_until_end(&mut stream).await, (b"thanks".to_vec(), None));
    };
    let server = async |mut stream: TcpStream| {
        let (received, ended) = read_until_end(&mut stream).await;
        assert_eq!((received.len(), ended), (BULK_BYTES, None));
        // Another relay gets the one there is.
        assert!(pipes.lend().is_some());
        assert_eq!(pipes.open_now(), 1);
        stream.write_all(b"thanks").await.unwrap();
    };
    let (_, result) = between(&worker, Limits::default(), client, server);
    assert!(result.is_ok(), "{result:?}");
}
