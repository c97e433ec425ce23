//! Memory that the process has used and needs no more.
#![expect(unsafe_code, reason = "there is no safe way to unmap pages, nor to find those of the program")]

use std::{
    ffi::{c_int, c_void},
    ptr, slice,
};

use nix::unistd::{SysconfVar, sysconf};

/// Gives back what a start or a change of configuration has used once: what [`trim_memory`] does, and the pages of the
/// program that were read.
///
/// The latter stay in the kernel's cache, where every process of the program shares them; those that are used again
/// cost a page fault each, without reading.
pub fn release_memory() {
    trim_memory();
    // SAFETY: the callback is of the type asked for and expects no data.
    unsafe {
        libc::dl_iterate_phdr(Some(release_segments), ptr::null_mut());
    }
}

/// Gives memory that is free but still held by the allocator back to the system.
///
/// The allocator of glibc keeps free pages that lie between used ones; they count as the process's until it is asked.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number of bytes to keep, touches free memory only, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps, until they are used again, the pages of a loaded object that nobody can have written to.
unsafe extern "C" fn release_segments(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    let Some(page) = page_size() else { return 0 };
    // SAFETY: the caller lends an object with as many headers as it says, for the time of this call.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = base + header.p_vaddr;
        // Pages at the edges may belong to something else too.
        let (first, end) = (begin.next_multiple_of(page), (begin + header.p_memsz) / page * page);
        if let Ok(length @ 1..) = usize::try_from(end.saturating_sub(first)) {
            // SAFETY: the pages are mapped from a file and read-only from the beginning (what is relocated, and made
            // read-only afterwards, is in segments that say they are writable), so that a page that is used again comes
            // back as it was. Where that does not hold the kernel refuses, and nothing is lost.
            unsafe {
                libc::madvise(ptr::with_exposed_provenance_mut(first as usize), length, libc::MADV_DONTNEED);
            }
        }
    }
    0
}

fn page_size() -> Option<u64> {
    u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;

    use super::*;

    /// KiB of this process's mappings of files.
    fn resident_of_files() -> u64 {
        let status = read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn pages_of_the_program_go_and_come_back_as_they_were() {
        // Much code is run before main, and everything else goes on after it.
        let before = resident_of_files();
        release_memory();
        let after = resident_of_files();
        assert!(after < before, "{before} KiB, then {after} KiB");
        let read = read_to_string("/proc/self/cmdline").unwrap();
        assert!(read.contains(env!("CARGO_CRATE_NAME")), "{read}");
    }
}
