//! Frames on a real device: what the frame builder makes is sent as it is, and what arrives is
//! handed out as it came.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::netns::Namespace;

/// Every ether type (`ETH_P_ALL`).
const ALL: u16 = 3;
/// The longest frame that is taken.
const FRAME: usize = 65_536;

/// A packet socket on one device.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens one on `device` inside `namespace`.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        let name = CString::new(device)?;
        namespace.run(|| {
            let protocol = libc::c_int::from(ALL.to_be());
            // SAFETY: a plain system call; its answer is checked.
            let number = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol) };
            let number = checked(number).context("open a packet socket")?;
            // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            // SAFETY: the name is a C string that lives over the call.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let address = libc::sockaddr_ll {
                sll_family: u16::try_from(libc::AF_PACKET)?,
                sll_protocol: ALL.to_be(),
                sll_ifindex: i32::try_from(index)?,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            };
            let length = u32::try_from(size_of_val(&address))?;
            // SAFETY: the address is of the size that is passed with it.
            let bound =
                unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
            checked(bound).with_context(|| format!("bind a packet socket to {device}"))?;
            Ok(Self { socket })
        })
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the buffer is of the length that is passed with it.
        let sent =
            unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("send a frame");
        }
        Ok(())
    }

    /// Waits for a frame from the other end that `wanted` takes; others are thrown away.
    pub fn receive<T>(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no such frame came within {limit:?}");
            }
            if let Some(frame) = self.next(left)?
                && let Some(found) = wanted(&frame)
            {
                return Ok(found);
            }
        }
    }

    fn next(&self, left: Duration) -> Result<Option<Vec<u8>>> {
        let mut ready =
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: one descriptor, as said.
        checked(unsafe { libc::poll(&raw mut ready, 1, wait) }).context("wait for a frame")?;
        if ready.revents & libc::POLLIN == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; FRAME];
        let mut from = libc::sockaddr_ll {
            sll_family: 0,
            sll_protocol: 0,
            sll_ifindex: 0,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let mut length = u32::try_from(size_of_val(&from))?;
        // SAFETY: buffer and address are of the lengths that are passed with them.
        let got = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error()).context("receive a frame");
        }
        frame.truncate(usize::try_from(got)?);
        // A packet socket sees its own host's frames, too.
        Ok((from.sll_pkttype != libc::PACKET_OUTGOING).then_some(frame))
    }
}

fn checked(answer: libc::c_int) -> Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error().into()) } else { Ok(answer) }
}
