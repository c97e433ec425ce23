//! Questions to other name servers, passed on as they came.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use hickory_resolver::proto::{
    op::{Header, MessageType, Metadata, Query},
    serialize::binary::{BinDecodable, BinDecoder, DecodeError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// How a question came; it is passed on in the same way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The answer of one name server.
pub(super) async fn ask(server: SocketAddr, asked: &[u8], over: Transport) -> io::Result<Vec<u8>> {
    match over {
        Transport::Udp => ask_by_datagram(server, asked).await,
        Transport::Tcp => {
            let mut stream = TcpStream::connect(server).await?;
            send(&mut stream, asked).await?;
            receive(&mut stream).await
        }
    }
}

/// From a port of its own, which the kernel draws: whoever wants to forge an answer has to guess it.
async fn ask_by_datagram(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if is_answer(&answer[..length], asked) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// Whether a message answers what was asked. One with another number or another question was meant for somebody else, or
/// somebody guesses at ours.
fn is_answer(message: &[u8], asked: &[u8]) -> bool {
    let (Ok((answer, answered)), Ok((question, wanted))) = (beginning(message), beginning(asked)) else {
        return false;
    };
    answer.message_type == MessageType::Response && answer.id == question.id && answered == wanted
}

/// What a message begins with: its number and kind, and the questions.
fn beginning(message: &[u8]) -> Result<(Metadata, Vec<Query>), DecodeError> {
    let mut decoder = BinDecoder::new(message);
    let Header { metadata, counts } = Header::read(&mut decoder)?;
    let questions = (0..counts.queries).map(|_| Query::read(&mut decoder)).collect::<Result<_, _>>()?;
    Ok((metadata, questions))
}

/// Reads a message behind its length.
pub(super) async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message behind its length, at once.
pub(super) async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}
