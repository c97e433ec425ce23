//! The one system call that no crate wraps for us.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// Reads a socket option that is a question and an answer in one: `value` is sent to the kernel, which fills it in place.
///
/// Returns how many bytes of it count.
///
/// # Errors
/// Those of `getsockopt`; ENOPROTOOPT when the kernel does not know the option.
#[expect(unsafe_code, reason = "options of netfilter have no type of their own in nix or socket2")]
pub(crate) fn socket_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut length = libc::socklen_t::try_from(value.len()).map_err(too_long)?;
    // SAFETY: the kernel reads and writes at most `length` bytes at `value`, which are there, initialised and ours alone
    // for the time of the call; any bytes are a valid `[u8]`. The descriptor is open as long as it is borrowed.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(length).map_err(too_long)
}
