//! Numbers off the wire that cases name: ether types, protocols, TCP flags.

/// Ether type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ether type of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Ether type of ARP.
pub const ARP: u16 = 0x0806;
/// Ether type of a VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// Ether type of an outer VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// Protocol number of an IPv4 packet inside another (RFC 2003).
pub const IPIP: u8 = 4;
/// Protocol number of an IPv6 packet inside another (RFC 2473).
pub const IP6IP: u8 = 41;
/// UDP's destination port for GUE, as assigned.
pub const GUE_PORT: u16 = 6080;
/// Next-header number of IPv6's hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next-header number of IPv6's routing header.
pub const ROUTING: u8 = 43;
/// Next-header number of IPv6's destination options.
pub const DESTINATION: u8 = 60;
/// Next-header number of IPv6's fragment header.
pub const FRAGMENT: u8 = 44;

/// TCP's FIN flag.
pub const FIN: u8 = 0x01;
/// TCP's SYN flag.
pub const SYN: u8 = 0x02;
/// TCP's RST flag.
pub const RST: u8 = 0x04;
/// TCP's PSH flag.
pub const PSH: u8 = 0x08;
/// TCP's ACK flag.
pub const ACK: u8 = 0x10;
