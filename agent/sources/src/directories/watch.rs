//! Which files of the watched directories were touched (inotify).

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

/// An inotify instance that watches directories. Needs a runtime with I/O.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: AsyncFd<Descriptor>,
    watched: HashMap<PathBuf, WatchDescriptor>,
}

/// What was done to files, by name, whatever the directory; some of it goes unnamed.
pub(super) type Touched = Vec<(OsString, Touch)>;

/// What was done to a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Touch {
    /// It was written to and may be written to again: whoever does so has not closed it.
    Begun,
    /// Anything else.
    Done,
}

impl Watcher {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what holds here: the descriptor owns its file"
        )]
        let inotify = AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)?;
        Ok(Self { inotify, watched: HashMap::new() })
    }

    /// Watches these directories as they are now. Called before every scan: a directory that was replaced by another
    /// of the same name is a new one to inotify, and for one that is still the same nothing changes.
    pub(super) fn watch<'d>(&mut self, directories: impl Iterator<Item = &'d Path>) {
        for directory in directories {
            let inotify = &self.inotify.get_ref().0;
            let now = inotify.add_watch(directory, mask()).ok();
            let before = match now {
                Some(now) => self.watched.insert(directory.to_owned(), now),
                None => self.watched.remove(directory),
            };
            if let Some(before) = before.filter(|before| Some(*before) != now) {
                // Fails when the kernel dropped the watch together with the directory, which is as well.
                _ = inotify.rm_watch(before);
            }
        }
    }

    /// Waits for something to happen in a watched directory.
    pub(super) async fn touched(&self) -> Touched {
        loop {
            let events = self.inotify.async_io(Interest::READABLE, |inotify| {
                inotify.0.read_events().map_err(|errno: Errno| io::Error::from(errno))
            });
            match events.await {
                Ok(events) => {
                    return events.into_iter().filter_map(named).collect();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A dead instance must not make a busy loop: the caller's interval takes over.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

fn named(event: InotifyEvent) -> Option<(OsString, Touch)> {
    let begun = event.mask == AddWatchFlags::IN_MODIFY;
    Some((event.name?, if begun { Touch::Begun } else { Touch::Done }))
}

fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_MOVE_SELF
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
