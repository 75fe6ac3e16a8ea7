//! The connection table: a flow's key, and the entry that holds all an established packet needs.
//!
//! Under NAT a connection has two entries in the table of its family. The **forward** entry's key is the
//! client's flow (client → service), the **reverse** entry's key is the backend's (backend → the
//! source address and port that NAT chose). Each entry's rewrite is the other entry's key turned
//! round, so either leads to the other. Where only the client's packets pass here (DSR, tunnels) there is
//! the forward entry alone, and its rewrite is not used.

use bytemuck::{Pod, Zeroable};

use crate::net::{Addr4, Addr6, Address, Be16, Hop, Ports};

/// Key of the connection table: a packet's addresses, ports and protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Zeroable)]
pub struct Flow<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source and destination port.
    pub ports: Ports,
    /// IP protocol number, a whole word so that the key has no padding to be cleared.
    pub protocol: u32,
}

/// The addresses and ports that a packet gets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Rewrite<A> {
    /// New source address.
    pub source: A,
    /// New destination address.
    pub destination: A,
    /// New source and destination port.
    pub ports: Ports,
}

/// One entry of the connection table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Connection<A> {
    /// What the packet's addresses and ports become.
    pub rewrite: Rewrite<A>,
    /// The way to the client, in both entries: replies leave by it, and a forward packet that
    /// came another way shows that it changed.
    pub client: Hop,
    /// Index into the backend table.
    pub backend: u32,
    /// The service's id.
    pub service: u32,
    /// One's complement delta of the IPv4 header checksum, the decremented TTL included (RFC 1624).
    pub network_delta: u16,
    /// One's complement delta of the transport checksum, pseudo-header included.
    pub transport_delta: u16,
    /// When a packet last came this way, in [`crate::clock`] ticks.
    pub last_seen: u32,
    /// Bits of [`state`]; the forward entry's are the connection's.
    pub state: u32,
    /// When it was opened, in microseconds of `CLOCK_MONOTONIC`, which wrap after 71 minutes.
    pub opened: u32,
    /// Its place among the unconfirmed connections, while it is one.
    pub place: u32,
    /// The number that the client's acknowledgement of the backend's SYN must have, in network
    /// order; set when the backend answers.
    pub answer: u32,
}

/// Bits of [`Connection::state`].
pub mod state {
    /// This is the reverse entry. Its other bits are not used.
    pub const REVERSE: u32 = 1;
    /// The backend answered (TCP: SYN-ACK; UDP: any packet).
    pub const ANSWERED: u32 = 1 << 1;
    /// The client acknowledged the answer (TCP: handshake complete; UDP: two ways seen).
    pub const ESTABLISHED: u32 = 1 << 2;
    /// The client sent a FIN.
    pub const CLIENT_FIN: u32 = 1 << 3;
    /// The backend sent a FIN.
    pub const BACKEND_FIN: u32 = 1 << 4;
    /// The backend's FIN was the first: it, and not the client, keeps the connection's addresses and
    /// ports in TIME-WAIT (RFC 9293, 3.6.1).
    pub const BACKEND_FIRST: u32 = 1 << 6;
    /// Both sides sent a FIN, or one sent a RST, or the time ran out. Whoever sets this bit
    /// counts the connection as closed; it is set once.
    pub const CLOSED: u32 = 1 << 5;
    /// The backend refused the connection before it was established: the client's next SYN goes to
    /// another one.
    pub const REFUSED: u32 = 1 << 7;
    /// We gave it up before it was established: another backend has the attempt, or another connection its
    /// place or port. Set with [`CLOSED`]; what its backend answers now is too late.
    pub const GIVEN_UP: u32 = 1 << 10;
    /// Both directions are finished.
    pub const BOTH_FINS: u32 = CLIENT_FIN | BACKEND_FIN;

    /// Where one of [`crate::service::forwarding`] stands: how the connection's packets are
    /// forwarded, whatever its service does by now.
    pub const FORWARDING_SHIFT: u32 = 8;
    /// Its mask, shifted down.
    pub const FORWARDING_MASK: u32 = 3;
    /// Where the number of backends stands that the client was sent to before this one.
    pub const ATTEMPTS_SHIFT: u32 = 12;
    /// Its mask, shifted down.
    pub const ATTEMPTS_MASK: u32 = 7;
}

const _: () = {
    assert!(size_of::<Flow<Addr4>>() == 16 && size_of::<Flow<Addr6>>() == 40);
    assert!(size_of::<Rewrite<Addr4>>() == 12 && size_of::<Rewrite<Addr6>>() == 36);
    assert!(size_of::<Connection<Addr4>>() == 60 && size_of::<Connection<Addr6>>() == 84);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for Flow<A> {}
// SAFETY: as for `Flow`.
unsafe impl<A: Address> Pod for Rewrite<A> {}
// SAFETY: as for `Flow`.
unsafe impl<A: Address> Pod for Connection<A> {}

impl<A: Address> Flow<A> {
    /// The key of the flow between two endpoints.
    #[inline(always)]
    #[must_use]
    pub fn new(source: (A, Be16), destination: (A, Be16), protocol: u8) -> Self {
        Self {
            source: source.0,
            destination: destination.0,
            ports: Ports::new(source.1, destination.1),
            protocol: u32::from(protocol),
        }
    }

    /// IP protocol number.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "made from a u8")]
    pub const fn protocol(&self) -> u8 {
        self.protocol as u8
    }
}

impl<A: Address> Connection<A> {
    /// Key of the connection's other entry: this rewrite, seen from the other end.
    #[inline(always)]
    #[must_use]
    pub fn partner(&self, protocol: u8) -> Flow<A> {
        let Rewrite { source, destination, ports } = self.rewrite;
        Flow {
            source: destination,
            destination: source,
            ports: ports.turned(),
            protocol: u32::from(protocol),
        }
    }

    /// How its packets are forwarded: one of [`crate::service::forwarding`].
    #[inline(always)]
    #[must_use]
    pub const fn forwarding(&self) -> u32 {
        (self.state >> state::FORWARDING_SHIFT) & state::FORWARDING_MASK
    }

    /// Whether this is the reverse entry.
    #[inline(always)]
    #[must_use]
    pub const fn is_reverse(&self) -> bool {
        self.state & state::REVERSE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partner_of_the_partner_is_the_flow() {
        let client = (Addr4::from_wire([198, 51, 100, 7]), Be16::new(40_000));
        let service = (Addr4::from_wire([192, 0, 2, 10]), Be16::new(80));
        let source = (Addr4::from_wire([10, 0, 0, 2]), Be16::new(1024));
        let backend = (Addr4::from_wire([10, 0, 0, 11]), Be16::new(8080));
        let rewrite = |s: (Addr4, Be16), d: (Addr4, Be16)| Connection {
            rewrite: Rewrite { source: s.0, destination: d.0, ports: Ports::new(s.1, d.1) },
            ..Connection::default()
        };
        let forward = rewrite(source, backend);
        let reverse = rewrite(service, client);
        assert_eq!(forward.partner(6), Flow::new(backend, source, 6));
        assert_eq!(reverse.partner(6), Flow::new(client, service, 6));
    }
}
