//! The groups of the process at the other end of a Unix socket, as the kernel noted them when it
//! connected (`SO_PEERGROUPS`, Linux 4.13; unix(7)). No database is asked: a service that was given a
//! group by its manager has it, too.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
};

/// Reads the supplementary groups of a socket's peer.
///
/// # Errors
///
/// What the kernel answered.
pub(super) fn of_peer(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = vec![0; 32];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut bytes = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes into the vector, which has that many, and
        // the length that it has or needs into `bytes`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                ptr::from_mut(&mut bytes),
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_peers_groups_are_those_that_it_has() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut found = of_peer(&one).unwrap();
        let own = rustix::process::getgroups().unwrap();
        let mut own: Vec<u32> = own.into_iter().map(rustix::process::Gid::as_raw).collect();
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
    }
}
