//! What is unwrapped, byte for byte: every tunnel, family and depth of VLAN tags.

use evenkeel_tests::frame::{Frame, verify_checksums};

use crate::{
    harness::Harness,
    tunnel::{TUNNELS, packet, packets},
};

/// VLAN tags of a frame, from the outside in.
const TAGS: [&[(u16, u16)]; 4] =
    [&[], &[(0x8100, 7)], &[(0x88a8, 0x6064), (0x8100, 0xe007)], &[(0x8100, 1), (0x8100, 4095)]];

fn tagged(frame: Frame, tags: &[(u16, u16)]) -> Frame {
    tags.iter().fold(frame, |frame, (ether_type, id)| frame.vlan(*ether_type, *id))
}

#[test]
fn the_packet_comes_out_as_the_client_sent_it() {
    let harness = Harness::new();
    for (what, inner) in packets() {
        for tunnel in TUNNELS {
            for tags in TAGS {
                let name = format!("{what} in {tunnel:?} with tags {tags:x?}");
                let frame = tagged(tunnel.around(&packet(&inner)), tags).build();
                let expected = tagged(inner.clone(), tags).build();
                harness.unwraps(&name, tunnel.counter(), &frame, &expected);
            }
        }
    }
}

#[test]
fn ethernet_addresses_are_kept() {
    let harness = Harness::new();
    let (from, to) = ([2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee], [2, 1, 2, 3, 4, 5]);
    for tunnel in TUNNELS {
        let frame = tunnel.around(&packet(&Frame::tcp6())).macs(from, to).build();
        let expected = Frame::tcp6().macs(from, to).build();
        harness.unwraps(&format!("{tunnel:?}"), tunnel.counter(), &frame, &expected);
    }
}

#[test]
fn bytes_after_the_packet_stay_behind_it() {
    let harness = Harness::new();
    for tunnel in TUNNELS {
        for (what, inner) in packets() {
            let name = format!("{what} in {tunnel:?}");
            // The frame's padding, and bytes that the outer length counts in.
            let padded = tunnel.around(&packet(&inner)).trailer(&[0; 18]).build();
            let expected = inner.clone().trailer(&[0; 18]).build();
            harness.unwraps(&name, tunnel.counter(), &padded, &expected);
            let mut longer = packet(&inner);
            longer.extend(b"behind");
            let expected = inner.clone().trailer(b"behind").build();
            harness.unwraps(&name, tunnel.counter(), &tunnel.around(&longer).build(), &expected);
        }
    }
}

#[test]
fn any_udp_checksum_will_do() {
    let harness = Harness::new();
    for tunnel in TUNNELS.into_iter().filter(|tunnel| tunnel.is_gue) {
        for checksum in [0, 0x1234, 0xffff] {
            let frame = tunnel.around(&packet(&Frame::tcp4())).checksum(checksum).build();
            let name = format!("{tunnel:?} with checksum {checksum:#x}");
            harness.unwraps(&name, "unwrapped-gue", &frame, &Frame::tcp4().build());
        }
    }
}

#[test]
fn congestion_marks_follow_rfc_6040() {
    // Not-ECT, ECT(1), ECT(0), CE: by the inner packet's mark, then by the outer one's. The
    // figure in section 4.2, its columns in the order of the numbers.
    const FIGURE: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    let harness = Harness::new();
    for inner in [Frame::tcp4(), Frame::tcp6(), Frame::udp4().id(0xffff)] {
        for tunnel in TUNNELS {
            for (inner_mark, row) in (0..).zip(FIGURE) {
                for (outer_mark, mark) in (0..).zip(row) {
                    let name = format!("{inner_mark:02b} in {outer_mark:02b} by {tunnel:?}");
                    // The rest of the octet stays the inner packet's own (RFC 2983, pipe model).
                    let original = inner.clone().tos(0xb8 | inner_mark);
                    let frame = tunnel.around(&packet(&original)).tos(0x48 | outer_mark).build();
                    match mark {
                        Some(mark) => {
                            let expected = inner.clone().tos(0xb8 | mark).build();
                            verify_checksums(&expected).unwrap();
                            harness.unwraps(&name, tunnel.counter(), &frame, &expected);
                        }
                        None => harness.leaves(&name, "drop-congestion", &frame),
                    }
                }
            }
        }
    }
}

#[test]
fn the_option_of_linux_own_tunnels_is_taken_off() {
    let harness = Harness::new();
    for (what, inner) in packets() {
        for tunnel in TUNNELS.into_iter().filter(|tunnel| !tunnel.is_v4) {
            // Tunnel Encapsulation Limit 4, PadN (RFC 2473, section 4.1.1).
            let outer = tunnel.around(&packet(&inner)).extension(60, &[0, 4, 1, 4, 1, 1, 0]);
            let name = format!("{what} in {tunnel:?}");
            harness.unwraps(&name, tunnel.counter(), &outer.build(), &inner.build());
        }
    }
}
