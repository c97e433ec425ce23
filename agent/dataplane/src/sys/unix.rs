//! Unix sockets, whose connections are read and written as those of TCP are.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use snapshot::UnixPath;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::{alarm, bounds};

/// A connection that was accepted, to be read and written as those of TCP are.
pub(crate) fn accepted(stream: UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(OwnedFd::from(stream.into_std()?).into())
}

/// Connects to a unix socket.
///
/// The kernel does not let a caller wait that must not block: while the server's queue is full it refuses, and is asked
/// again for as long as the caller has patience.
pub(super) async fn connect(path: &UnixPath) -> io::Result<TcpStream> {
    let address = address(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    while let Err(error) = socket.connect(&address) {
        match error.kind() {
            io::ErrorKind::WouldBlock => alarm::sleep(QUEUE_IS_FULL).await,
            _ => return Err(error),
        }
    }
    // To the kernel one stream socket is as good as another; what only TCP has is not asked of it.
    TcpStream::from_std(socket.into())
}

/// Listens on a unix socket. A file left behind by somebody who listens no more is replaced.
///
/// # Errors
/// Somebody listens, the file is no socket, or the kernel refused.
pub(crate) fn listen(path: &UnixPath) -> io::Result<ListeningUnix> {
    let address = address(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && path.abstract_name().is_none() => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    socket.listen(bounds::BACKLOG)?;
    let file = path.abstract_name().is_none().then(|| SocketFile::of(path)).transpose()?;
    Ok(ListeningUnix { socket: OwnedFd::from(socket).into(), _file: file })
}

/// A unix socket that is listened on; its file goes with it.
#[derive(Debug)]
pub(crate) struct ListeningUnix {
    pub(crate) socket: UnixListener,
    _file: Option<SocketFile>,
}

/// The file of a socket, removed at the end unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and number.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &UnixPath) -> io::Result<Self> {
        let path = PathBuf::from(path.as_str());
        Ok(Self { identity: identity(&path)?, path })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Whoever removed it meanwhile has done our work.
            _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Removes the file of a socket that nobody listens on.
fn remove_stale(path: &UnixPath, address: &SockAddr) -> io::Result<()> {
    let taken = || io::Error::from_raw_os_error(nix::errno::Errno::EADDRINUSE as i32);
    let file = fs::symlink_metadata(path.as_str())?;
    if !file.file_type().is_socket() {
        return Err(taken());
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path.as_str()),
        _ => Err(taken()),
    }
}

fn address(path: &UnixPath) -> io::Result<SockAddr> {
    match path.abstract_name() {
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path.as_str()),
    }
}

/// Long for a server that is at work, and short among time-outs.
const QUEUE_IS_FULL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
        pin::pin,
        thread,
    };

    use super::*;

    #[test]
    fn a_full_queue_is_waited_for() {
        let path = UnixPath::new(&format!("@postern-test-{}", fastrand::u64(..)));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&address(&path).unwrap()).unwrap();
        // Room for one.
        socket.listen(0).unwrap();
        let listener = UnixListener::from(OwnedFd::from(socket));
        let (queued, mut served) = alarm::kept(async {
            let queued = connect(&path).await.unwrap();
            let mut second = pin!(connect(&path));
            let waited = alarm::within(QUEUE_IS_FULL * 3, second.as_mut()).await;
            assert!(waited.is_err(), "it waits: {waited:?}");
            let accepting = thread::spawn(move || [(); 2].map(|()| listener.accept().unwrap().0));
            second.await.unwrap();
            (queued.into_std().unwrap(), accepting.join().unwrap())
        });
        served[0].write_all(b"hello").unwrap();
        queued.set_nonblocking(false).unwrap();
        let mut read = [0; 5];
        (&queued).read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");
    }

    #[test]
    fn where_nobody_is_the_kernel_says_so_at_once() {
        let error = alarm::kept(connect(&UnixPath::new("/nowhere/at/all"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
