//! A received frame, taken header by header. The only raw pointers of the pure stages live here.
//!
//! Each header is handed out once, as a disjoint mutable reference, so the rest of the data path
//! is safe code. The comparison with the frame's end is the one that the verifier wants to see.

use core::marker::PhantomData;

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use crate::{
    ethernet::{Ethernet, Tag},
    message::{Icmp, Start, TcpRest},
};

/// Bytes that [`Frame::sum`] sums up at the most.
pub const SUMMED: usize = 128;

/// A TCP header without options (RFC 9293, section 3.1), as bytes: network-types' own takes its flags
/// apart bit by bit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Source and destination port.
    pub ports: [u8; 4],
    /// Sequence number.
    pub sequence: [u8; 4],
    /// Acknowledgement number.
    pub acknowledgement: [u8; 4],
    /// Length of the header in words, in the high half.
    pub offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: [u8; 2],
    /// Checksum.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: [u8; 2],
}

/// A UDP header (RFC 768), its ports together as [`Tcp`] has them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// Source and destination port.
    pub ports: [u8; 4],
    /// Length of header and payload in bytes.
    pub length: [u8; 2],
    /// Checksum; zero where there is none.
    pub checksum: [u8; 2],
}

/// The first eight bytes of an IPv6 extension header (RFC 8200, section 4).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Extension {
    /// Number of the header that follows.
    pub next: u8,
    /// Length after these eight bytes, in units of eight; of a fragment header, reserved.
    pub length: u8,
    /// What the header is for.
    pub rest: [u8; 6],
}

/// A header that may be laid over the bytes of a frame.
///
/// # Safety
///
/// The type has an alignment of one and any bytes are a valid value of it.
pub unsafe trait Header {}

// SAFETY: `repr(C)`, of arrays of bytes.
unsafe impl Header for Ethernet {}
// SAFETY: `repr(C)`, of arrays of bytes.
unsafe impl Header for Tag {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Extension {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Tcp {}
// SAFETY: `repr(C)`, of arrays of bytes.
unsafe impl Header for Udp {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Ipv6Hdr {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for TcpHdr {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for UdpHdr {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Icmp {}
// SAFETY: `repr(C)`, of arrays of bytes.
unsafe impl Header for Start {}
// SAFETY: `repr(C)`, of arrays of bytes.
unsafe impl Header for TcpRest {}

/// Writes an Ethernet address in whole words: a copy of six bytes whose places may overlap, as the
/// compiler has to think of a table and a packet, becomes a loop over bytes.
#[inline(always)]
pub fn put_ethernet(to: &mut [u8; 6], from: &[u8; 6]) {
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    // SAFETY: both are six bytes, read and written as four and two at any alignment.
    unsafe {
        let (high, low) =
            (from.cast::<u32>().read_unaligned(), from.add(4).cast::<u16>().read_unaligned());
        to.cast::<u32>().write_unaligned(high);
        to.add(4).cast::<u16>().write_unaligned(low);
    }
}

/// Both addresses of a frame in words, as they lie in memory.
#[inline(always)]
#[must_use]
pub fn ethernet_words(header: &Ethernet) -> [u32; 3] {
    // SAFETY: the first twelve of the header's bytes, read at any alignment.
    unsafe { core::ptr::from_ref(header).cast::<[u32; 3]>().read_unaligned() }
}

/// Writes an IPv6 address in whole words, for the same reason.
#[inline(always)]
pub fn put_address6(to: &mut [u8; 16], from: &[u32; 4]) {
    let [a, b, c, d] = *from;
    let to = to.as_mut_ptr();
    // SAFETY: sixteen bytes, written as four words at any alignment.
    unsafe {
        to.cast::<u32>().write_unaligned(a);
        to.add(4).cast::<u32>().write_unaligned(b);
        to.add(8).cast::<u32>().write_unaligned(c);
        to.add(12).cast::<u32>().write_unaligned(d);
    }
}

/// Writes a whole header in words, as they are to lie in memory.
#[inline(always)]
pub fn put_words<H: Header, const N: usize>(header: &mut H, words: [u32; N]) {
    const { assert!(size_of::<H>() == N * size_of::<u32>()) };
    let header = core::ptr::from_mut(header).cast::<[u32; N]>();
    // SAFETY: as many bytes as asserted, written at any alignment; `H: Header` accepts any bytes.
    unsafe { header.write_unaligned(words) };
}

/// What is left of a frame.
pub struct Frame<'a> {
    next: usize,
    end: usize,
    bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> Frame<'a> {
    /// The frame between two addresses.
    ///
    /// # Safety
    ///
    /// The bytes from `start` to `end` are readable and writable for `'a`, and nothing else
    /// refers to them.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_raw(start: usize, end: usize) -> Self {
        Self { next: start, end, bytes: PhantomData }
    }

    /// The frame in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        let range = bytes.as_mut_ptr_range();
        // SAFETY: the range is the exclusive borrow that came in.
        unsafe { Self::from_raw(range.start.expose_provenance(), range.end.expose_provenance()) }
    }

    /// The next header, or `None` where the frame ends before it does.
    #[inline(always)]
    pub fn take<H: Header>(&mut self) -> Option<&'a mut H> {
        const { assert!(align_of::<H>() == 1) };
        let start = self.next;
        let end = start + size_of::<H>();
        if end > self.end {
            return None;
        }
        self.next = end;
        let header = core::ptr::with_exposed_provenance_mut::<H>(start);
        // SAFETY: the bytes lie within the frame and are handed out once; `H: Header` accepts
        // any bytes at any address.
        Some(unsafe { &mut *header })
    }

    /// Leaves out some bytes; `None` where the frame ends before. No header has more than two
    /// kilobytes to be left out: a longer step ends the frame, too.
    #[inline(always)]
    pub fn skip(&mut self, bytes: usize) -> Option<()> {
        // Bounds that the verifier follows.
        if bytes > 2048 {
            return None;
        }
        let next = self.next + bytes;
        if next > self.end {
            return None;
        }
        self.next = next;
        Some(())
    }

    /// The one's complement sum of the words that are left: of [`SUMMED`] bytes at the most, and
    /// without an odd one at the end.
    #[inline(always)]
    #[must_use]
    pub fn sum(&self) -> u32 {
        let mut sum = 0;
        let mut next = self.next;
        for _ in 0..SUMMED / size_of::<u16>() {
            let end = next + size_of::<u16>();
            if end > self.end {
                break;
            }
            let word = core::ptr::with_exposed_provenance::<u16>(next);
            // SAFETY: the bytes lie within the frame, and nobody has been handed them.
            sum += u32::from(unsafe { word.read_unaligned() });
            next = end;
        }
        sum
    }

    /// The next byte, not taken.
    #[inline(always)]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        if self.next + 1 > self.end {
            return None;
        }
        // SAFETY: the byte lies within the frame; whoever takes it later writes after this.
        Some(unsafe { core::ptr::with_exposed_provenance::<u8>(self.next).read() })
    }

    /// Bytes that are left.
    #[inline(always)]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.end - self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_disjoint_and_end_with_the_frame() {
        let mut bytes = [7_u8; Ethernet::LEN + UdpHdr::LEN + 3];
        let mut frame = Frame::new(&mut bytes);
        let ethernet = frame.take::<Ethernet>().unwrap();
        let udp = frame.take::<UdpHdr>().unwrap();
        ethernet.destination = [1; 6];
        udp.check = [2; 2];
        assert_eq!(frame.remaining(), 3);
        assert!(frame.take::<UdpHdr>().is_none());
        assert_eq!(frame.remaining(), 3);
        assert_eq!(bytes[..6], [1; 6]);
        assert_eq!(bytes[Ethernet::LEN + 6..Ethernet::LEN + 8], [2; 2]);
    }
}
