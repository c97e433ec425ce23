//! What the kernel holds for the peer of a connection.
#![expect(unsafe_code, reason = "there is no safe way to ask how much a socket has not sent")]

use std::os::fd::AsRawFd;

use tokio::net::TcpStream;

/// Bytes that were written and that the peer has not acknowledged; in unix sockets, that it has not read (`SIOCOUTQ`).
/// None where the kernel does not tell, for a connection that has ended.
pub(crate) fn unacknowledged(stream: &TcpStream) -> u32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the socket is open as long as it is borrowed, and the kernel writes one number to where `bytes` is.
    let answer = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer == 0 { u32::try_from(bytes).unwrap_or_default() } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::fd::OwnedFd,
        os::unix::net::UnixStream,
    };

    use super::*;

    fn connected() -> (std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dialled = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (dialled, listener.accept().unwrap().0)
    }

    fn filled(mut writer: impl Write) {
        while writer.write(&[0; 65536]).is_ok() {}
    }

    #[test]
    fn it_shrinks_when_the_peer_reads_and_stays_when_it_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let (tcp, tcp_peer) = connected();
        let (unix, unix_peer) = UnixStream::pair().unwrap();
        tcp.set_nonblocking(true).unwrap();
        unix.set_nonblocking(true).unwrap();
        filled(&tcp);
        filled(&unix);
        let sockets: [(TcpStream, Box<dyn Read>); 2] = [
            (TcpStream::from_std(tcp).unwrap(), Box::new(tcp_peer)),
            (TcpStream::from_std(OwnedFd::from(unix).into()).unwrap(), Box::new(unix_peer)),
        ];
        for (ours, mut peer) in sockets {
            let before = unacknowledged(&ours);
            assert!(before > 0 && unacknowledged(&ours) == before);
            while unacknowledged(&ours) == before {
                peer.read_exact(&mut vec![0; 65536]).unwrap();
            }
            assert!(unacknowledged(&ours) < before);
        }
    }
}
