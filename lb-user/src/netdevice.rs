//! What an interface tells by the socket calls of netdevice(7) that no library here has.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Bytes of the largest IP packet that an interface takes.
///
/// # Errors
///
/// What the kernel answered: `ENODEV` where there is no such interface.
pub fn mtu(interface: &str) -> io::Result<u32> {
    // SAFETY: no pointers are passed.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened it for us.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: the structure is of integers and pointers only; zero is a value of each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: it ends the name.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the request outlives the call, which fills in its union's `ifru_mtu`.
    let mtu = unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_mtu
    };
    u32::try_from(mtu).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loopback_tells() {
        assert!(super::mtu("lo").unwrap() >= 1280);
        assert!(super::mtu("no-such-dev").is_err());
    }
}
