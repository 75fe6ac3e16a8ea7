//! Fragments of a built frame, as a sender or a router would make them (RFC 791, section 3.2;
//! RFC 8200, section 4.5).
//!
//! Sizes are the bytes of each fragment's data; what is left goes into one more. Ethernet's
//! header and VLAN tags are the frame's own in each of them, and padding is not copied.

use super::{FRAGMENT, HOP_BY_HOP, IPV4, IPV6, ROUTING, fold, read};

/// The flag in an option's type that has it copied into every fragment.
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MORE: u16 = 0x2000;
const DONT: u16 = 0x4000;

/// Splits an IPv4 frame, which may be a fragment itself. Every fragment has the frame's
/// identification; options that are not to be copied are in the first only.
///
/// # Panics
/// If the frame is no well-formed IPv4, may not be fragmented, or cannot be split so: each size
/// has to be a multiple of eight, and together they must leave something for the last fragment.
#[must_use]
pub fn fragments4(frame: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let (link, packet) = split_link(frame, IPV4);
    let length = usize::from(packet[0] & 0x0f) * 4;
    let total = usize::from(read::be16(packet, 2));
    let (header, data) = (&packet[..length], &packet[length..total]);
    let field = read::be16(header, 6);
    assert!(field & DONT == 0, "\"don't fragment\" is set; see Frame::dont_fragment");
    let pieces = pieces(data, sizes);
    let last = pieces.len() - 1;
    let mut fragments = Vec::new();
    let mut offset = usize::from(field & 0x1fff) * 8;
    for (number, piece) in pieces.iter().enumerate() {
        let options = match number {
            0 => header[20..].to_vec(),
            _ => copied_options(&header[20..]),
        };
        let mut own = header[..20].to_vec();
        own[0] = 0x40 | u8::try_from(5 + options.len() / 4).unwrap_or(15);
        let length = 20 + options.len() + piece.len();
        own[2..4].copy_from_slice(&be16(length));
        let more = if number == last { field & MORE } else { MORE };
        own[6..8].copy_from_slice(&(more | read::be16(&be16(offset / 8), 0)).to_be_bytes());
        own[10..12].copy_from_slice(&[0, 0]);
        own.extend(options);
        let checksum = !fold(&[&own]);
        own[10..12].copy_from_slice(&checksum.to_be_bytes());
        fragments.push([link, &own, piece].concat());
        offset += piece.len();
    }
    fragments
}

/// Splits an IPv6 frame that has no fragment header yet. Hop-by-hop options and a routing header
/// stand before the fragment header of every fragment; the rest is what is split.
///
/// # Panics
/// If the frame is no well-formed IPv6, or cannot be split so (see [`fragments4`]).
#[must_use]
pub fn fragments6(frame: &[u8], identification: u32, sizes: &[usize]) -> Vec<Vec<u8>> {
    let (link, packet) = split_link(frame, IPV6);
    let end = 40 + usize::from(read::be16(packet, 4));
    let (mut number_at, mut at) = (6, 40);
    let mut per_fragment = (number_at, at);
    while read::EXTENSIONS.contains(&packet[number_at]) {
        let number = packet[number_at];
        number_at = at;
        at += 8 + usize::from(packet[at + 1]) * 8;
        if matches!(number, HOP_BY_HOP | ROUTING) {
            per_fragment = (number_at, at);
        }
    }
    let (number_at, at) = per_fragment;
    let number = packet[number_at];
    assert!(number != FRAGMENT, "the frame has a fragment header already");
    let pieces = pieces(&packet[at..end], sizes);
    let last = pieces.len() - 1;
    let mut fragments = Vec::new();
    let mut offset = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let mut own = packet[..at].to_vec();
        own[4..6].copy_from_slice(&be16(at - 40 + 8 + piece.len()));
        own[number_at] = FRAGMENT;
        let place = read::be16(&be16(offset), 0) | u16::from(index != last);
        own.extend([number, 0]);
        own.extend(place.to_be_bytes());
        own.extend(identification.to_be_bytes());
        fragments.push([link, &own, piece].concat());
        offset += piece.len();
    }
    fragments
}

/// Ethernet's header with its tags, and what follows it.
fn split_link(frame: &[u8], ether_type: u16) -> (&[u8], &[u8]) {
    let link = read::link(frame).unwrap_or_else(|error| panic!("cannot be split: {error}"));
    assert_eq!(link.ether_type, ether_type, "a frame of the other family");
    frame.split_at(link.length)
}

fn pieces<'a>(mut data: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &size in sizes {
        assert!(size > 0 && size % 8 == 0, "{size} bytes are no multiple of eight");
        assert!(size < data.len(), "nothing is left after a fragment of {size} bytes");
        let (piece, rest) = data.split_at(size);
        pieces.push(piece);
        data = rest;
    }
    pieces.push(data);
    pieces
}

/// The options that belong into every fragment, padded to words.
fn copied_options(options: &[u8]) -> Vec<u8> {
    let (mut copied, mut at) = (Vec::new(), 0);
    while at < options.len() && options[at] != END_OF_OPTIONS {
        let length = match options[at] {
            NO_OPERATION => 1,
            _ => usize::from(options[at + 1]).max(2),
        };
        if options[at] & COPIED != 0 {
            copied.extend(&options[at..at + length]);
        }
        at += length;
    }
    copied.resize(copied.len().next_multiple_of(4), END_OF_OPTIONS);
    copied
}

fn be16(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or_else(|_| panic!("{value} does not fit a field")).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    #[test]
    fn fragments_of_ipv4_have_their_known_headers() {
        let whole = Frame::udp4().payload(&[7; 24]).dont_fragment(false).vlan(VLAN, 3).build();
        let parts = fragments4(&whole, &[16, 8]);
        assert_eq!(parts.len(), 3);
        // Totals 36, 28, 28; offsets 0, 2, 3; more, more, none.
        let expected = [
            [0x45, 0, 0, 36, 0x12, 0x34, 0x20, 0, 64, 17, 0x5c, 0x55],
            [0x45, 0, 0, 28, 0x12, 0x34, 0x20, 2, 64, 17, 0x5c, 0x5b],
            [0x45, 0, 0, 28, 0x12, 0x34, 0, 3, 64, 17, 0x7c, 0x5a],
        ];
        for (part, header) in parts.iter().zip(expected) {
            assert_eq!(part[..18], whole[..18], "Ethernet and the tag");
            assert_eq!(part[18..30], header);
            verify_checksums(part).unwrap();
        }
        let data: Vec<u8> = parts.iter().flat_map(|part| part[38..].to_vec()).collect();
        assert_eq!(data, whole[38..]);
    }

    #[test]
    fn options_are_copied_where_they_say_so() {
        // Record route (7) is not copied, router alert (148) is, between no-operations.
        let options = [1, 7, 3, 4, 148, 4, 0, 0, 1, 1, 1, 0];
        let whole = Frame::udp4().payload(&[1; 40]).dont_fragment(false).ip_options(&options);
        let whole = whole.trailer(&[0; 9]).build();
        let parts = fragments4(&whole, &[24, 16]);
        let header = |part: &[u8]| parse(part).unwrap().ipv4_header.unwrap()[20..].to_vec();
        assert_eq!(header(&parts[0]), options);
        assert_eq!(header(&parts[1]), [148, 4, 0, 0]);
        assert_eq!(header(&parts[2]), [148, 4, 0, 0]);
        let offsets: Vec<_> = parts.iter().map(|part| parse(part).unwrap().offset).collect();
        assert_eq!(offsets, [0, 24, 40]);
        assert_eq!(parts[2].len(), 14 + 24 + 8, "no padding is copied");
    }

    #[test]
    fn a_fragment_is_split_further() {
        let whole = Frame::udp4().payload(&[3; 100]).dont_fragment(false).build();
        let parts = fragments4(&whole, &[64]);
        let first = fragments4(&parts[0], &[32]);
        let second = fragments4(&parts[1], &[40]);
        assert_eq!([first, second].concat(), fragments4(&whole, &[32, 32, 40]));
    }

    #[test]
    fn fragments_of_ipv6_have_their_known_headers() {
        let options = [0, 1, 4, 0, 0, 0, 0];
        let whole = Frame::udp6()
            .payload(&[7; 24])
            .extension(HOP_BY_HOP, &options)
            .extension(DESTINATION, &options)
            .build();
        let parts = fragments6(&whole, 0x0a0b_0c0d, &[16, 16]);
        assert_eq!(parts.len(), 3);
        for (part, (length, place)) in parts.iter().zip([(32, 1), (32, 16 | 1), (24, 32)]) {
            assert_eq!(part[18..21], [0, length, HOP_BY_HOP]);
            assert_eq!(part[54..62], [FRAGMENT, 0, 1, 4, 0, 0, 0, 0]);
            assert_eq!(part[62..70], [DESTINATION, 0, 0, place, 0x0a, 0x0b, 0x0c, 0x0d]);
        }
        assert_eq!(parts[0][70..78], [UDP, 0, 1, 4, 0, 0, 0, 0]);
        let data: Vec<u8> = parts.iter().flat_map(|part| part[70..].to_vec()).collect();
        assert_eq!(data, whole[62..]);
        let first = parse(&parts[0]).unwrap();
        assert_eq!((first.id, first.offset, first.more), (0x0a0b_0c0d, 0, true));
        assert_eq!((first.protocol, first.destination_port), (UDP, 53));
        let middle = parse(&parts[1]).unwrap();
        assert_eq!((middle.offset, middle.more, middle.source_port), (16, true, 0));
    }

    #[test]
    #[should_panic(expected = "don't fragment")]
    fn what_may_not_be_fragmented_is_not() {
        let _ = fragments4(&Frame::udp4().payload(&[0; 64]).build(), &[8]);
    }
}
