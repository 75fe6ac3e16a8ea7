//! What is not unwrapped: frames of others, from others, cut, malformed and mutated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_tests::frame::{Frame, TCP, UDP, describe};

use crate::{
    harness::Harness,
    tunnel::{GUE_PORT, TUNNELS, Tunnel, packet, packets},
};

/// The kernel's test-run takes no frame shorter than an Ethernet header.
const LEAST: usize = 14;
const IPIP4: Tunnel = TUNNELS[0];
const IPIP6: Tunnel = TUNNELS[1];
const GUE4: Tunnel = TUNNELS[2];
const GUE6: Tunnel = TUNNELS[3];

#[test]
fn what_is_no_tunnels_packet_for_us_passes_untouched() {
    let harness = Harness::new();
    let ours = packet(&Frame::tcp4());
    let others = packet(&Frame::tcp4().to(Ipv4Addr::new(192, 0, 2, 11), 80));
    let others6 = packet(&Frame::tcp6().to(Ipv6Addr::LOCALHOST, 80));
    let cases = [
        ("ARP", IPIP4.around(&ours).ether_type(0x0806), "pass-not-tunnel"),
        ("the client's own packet", Frame::tcp4(), "pass-not-tunnel"),
        ("the same over IPv6", Frame::tcp6(), "pass-not-tunnel"),
        ("UDP to another port", GUE4.around(&ours).destination_port(6081), "pass-not-tunnel"),
        (
            "UDP from GUE's port",
            GUE4.around(&ours).source_port(GUE_PORT).destination_port(53),
            "pass-not-tunnel",
        ),
        (
            "a third VLAN tag",
            IPIP4.around(&ours).vlan(0x88a8, 1).vlan(0x8100, 2).vlan(0x8100, 3),
            "pass-not-tunnel",
        ),
        ("no IPv4", IPIP4.around(&ours).version(5), "pass-not-tunnel"),
        ("no IPv6", IPIP6.around(&ours).version(5), "pass-not-tunnel"),
        ("an IPv4 header of 16 bytes", IPIP4.around(&ours).header_words(4), "pass-not-tunnel"),
        ("a first fragment", IPIP4.around(&ours).fragment(0, true), "pass-fragment"),
        ("a later fragment", IPIP4.around(&ours).fragment(7, true), "pass-fragment"),
        ("the last fragment", GUE4.around(&ours).fragment(7, false), "pass-fragment"),
        (
            "an IPv6 fragment",
            IPIP6.around(&ours).extension(44, &[0, 0, 1, 0, 0, 0, 1]),
            "pass-fragment",
        ),
        ("outer IPv4 options", IPIP4.around(&ours).ip_options(&[1; 4]), "pass-options"),
        ("outer IPv4 options and GUE", GUE4.around(&ours).ip_options(&[1; 40]), "pass-options"),
        (
            "a hop-by-hop header",
            IPIP6.around(&ours).extension(0, &[0, 1, 4, 0, 0, 0, 0]),
            "pass-options",
        ),
        ("a routing header", GUE6.around(&ours).extension(43, &[0; 7]), "pass-options"),
        (
            "another destination option",
            IPIP6.around(&ours).extension(60, &[0, 1, 4, 0, 0, 0, 0]),
            "pass-options",
        ),
        ("GUE with a header", GUE4.around(&[0, 4, 0, 0, 0x45, 0]), "pass-gue-variant"),
        ("GUE with a header, control", GUE6.around(&[0x20; 40]), "pass-gue-variant"),
        ("GUE of variant 2", GUE6.around(&[0x80; 40]), "pass-gue-variant"),
        ("another address", IPIP4.around(&others), "pass-unknown-destination"),
        ("another address in IPv6", IPIP6.around(&others), "pass-unknown-destination"),
        ("another address in GUE", GUE6.around(&others6), "pass-unknown-destination"),
        (
            "another address of a stranger",
            IPIP4.around(&others).from(Ipv4Addr::new(203, 0, 113, 1), 1),
            "pass-unknown-destination",
        ),
        (
            "nothing readable of a stranger",
            IPIP4.around(&ours[..19]).from(Ipv4Addr::new(203, 0, 113, 1), 1),
            "pass-unknown-destination",
        ),
    ];
    for (name, frame, counter) in cases {
        harness.leaves(name, counter, &frame.build());
    }
}

#[test]
fn what_is_malformed_is_dropped() {
    let harness = Harness::new();
    let (ours, ours6) = (packet(&Frame::tcp4()), packet(&Frame::tcp6()));
    let bytes = |tunnel: Tunnel, inner: Frame| tunnel.around(&packet(&inner));
    let cases = [
        (
            "an outer length beyond the frame",
            IPIP4.around(&ours).ip_length(61),
            "drop-malformed-outer",
        ),
        (
            "an outer length within its header",
            IPIP4.around(&ours).ip_length(19),
            "drop-malformed-outer",
        ),
        (
            "an outer length beyond the frame, IPv6",
            IPIP6.around(&ours).ip_length(41),
            "drop-malformed-outer",
        ),
        ("a wrong outer checksum", IPIP4.around(&ours).ip_checksum(0xabcd), "drop-malformed-outer"),
        ("a wrong outer checksum, GUE", GUE4.around(&ours).ip_checksum(0), "drop-malformed-outer"),
        (
            "a UDP length beyond the packet",
            GUE4.around(&ours).udp_length(49),
            "drop-malformed-outer",
        ),
        (
            "a UDP length within its header",
            GUE6.around(&ours).udp_length(7),
            "drop-malformed-outer",
        ),
        ("no UDP length", GUE6.around(&ours).udp_length(0), "drop-malformed-outer"),
        (
            "an outer length that ends in the packet",
            IPIP6.around(&ours).ip_length(39),
            "drop-malformed-inner",
        ),
        (
            "a UDP length that ends in the packet",
            GUE6.around(&ours).udp_length(47),
            "drop-malformed-inner",
        ),
        (
            "an inner length beyond the outer",
            bytes(IPIP4, Frame::tcp4().ip_length(41)),
            "drop-malformed-inner",
        ),
        (
            "an inner length beyond the outer, IPv6",
            bytes(GUE4, Frame::tcp6().ip_length(21)),
            "drop-malformed-inner",
        ),
        (
            "an inner length within its header",
            bytes(IPIP6, Frame::tcp4().ip_length(19)),
            "drop-malformed-inner",
        ),
        (
            "an inner header of 16 bytes",
            bytes(IPIP4, Frame::tcp4().header_words(4)),
            "drop-malformed-inner",
        ),
        (
            "an inner header beyond its length",
            bytes(GUE6, Frame::tcp4().header_words(15)),
            "drop-malformed-inner",
        ),
        ("IPv6 under protocol 4", IPIP4.around(&ours6).protocol(4), "drop-malformed-inner"),
        ("IPv4 under protocol 41", IPIP6.around(&ours).protocol(41), "drop-malformed-inner"),
        ("version 5 in GUE", bytes(GUE4, Frame::tcp4().version(5)), "drop-malformed-inner"),
        ("nothing inside", IPIP4.around(&[]), "drop-malformed-inner"),
        ("nothing inside, padded", IPIP4.around(&[]).trailer(&[0; 26]), "drop-malformed-inner"),
        ("nothing inside GUE", GUE6.around(&[]).trailer(&ours), "drop-malformed-inner"),
    ];
    for (name, frame, counter) in cases {
        harness.leaves(name, counter, &frame.build());
    }
}

#[test]
fn only_the_edges_prefixes_are_let_in() {
    let edges = ["198.18.0.0/16", "203.0.113.7", "100::/64", "100:0:0:1::8/125"];
    let harness = Harness::with(&edges, GUE_PORT);
    let open = Harness::with(&["0.0.0.0/0"], GUE_PORT);
    for (source, is_known) in [
        ("198.18.0.0", true),
        ("198.18.255.255", true),
        ("198.17.255.255", false),
        ("198.19.0.0", false),
        ("203.0.113.7", true),
        ("203.0.113.6", false),
        ("192.0.2.10", false),
        ("100::", true),
        ("100::ffff:ffff:ffff:ffff", true),
        ("100:0:0:1::f", true),
        ("100:0:0:1::7", false),
        ("100:0:0:1::10", false),
        ("2001:db8::1", false),
    ] {
        let source: IpAddr = source.parse().unwrap();
        for tunnel in TUNNELS.into_iter().filter(|tunnel| tunnel.is_v4 == source.is_ipv4()) {
            for (what, inner) in packets() {
                let name = format!("{what} from {source} in {tunnel:?}");
                let frame = tunnel.around(&packet(&inner)).from(source, 1234).build();
                let refused = "drop-refused-source";
                let counter = if is_known { tunnel.counter() } else { refused };
                assert_eq!(harness.run(&frame).counter, counter, "{name}");
                let counter = if source.is_ipv4() { tunnel.counter() } else { refused };
                assert_eq!(open.run(&frame).counter, counter, "{name}, open to IPv4");
            }
        }
    }
}

#[test]
fn the_gue_port_is_the_one_given() {
    let harness = Harness::with(&["198.18.0.0/16"], 5555);
    let frame = GUE4.around(&packet(&Frame::tcp4()));
    harness.leaves("the default", "pass-not-tunnel", &frame.build());
    let frame = frame.destination_port(5555).build();
    harness.unwraps("the one given", "unwrapped-gue", &frame, &Frame::tcp4().build());
}

#[test]
fn a_frame_cut_at_any_length_is_never_unwrapped() {
    let harness = Harness::new();
    for tunnel in TUNNELS {
        for (what, inner) in packets() {
            for tags in 0..3 {
                let outer = tunnel.around(&packet(&inner));
                let whole = (0..tags).fold(outer, |frame, id| frame.vlan(0x8100, id)).build();
                let headers = LEAST + 4 * usize::from(tags) + tunnel.overhead();
                // Long payloads are cut at a sample of lengths.
                let lengths =
                    (LEAST..whole.len()).filter(|length| *length < 140 || length % 97 == 0);
                for length in lengths {
                    let expected =
                        if length < headers { "pass-not-tunnel" } else { "drop-malformed-outer" };
                    let name = format!("{what} in {tunnel:?}, {tags} tags, cut at {length}");
                    harness.leaves(&name, expected, &whole[..length]);
                }
            }
        }
    }
}

#[test]
fn a_packet_cut_at_any_length_before_it_was_wrapped_is_dropped() {
    let harness = Harness::new();
    for tunnel in TUNNELS {
        for (what, inner) in packets() {
            let whole = packet(&inner);
            for length in (1..whole.len()).filter(|length| *length < 100 || length % 97 == 0) {
                let name = format!("{what} cut at {length} in {tunnel:?}");
                let frame = tunnel.around(&whole[..length]).build();
                harness.leaves(&name, "drop-malformed-inner", &frame);
            }
        }
    }
}

/// Marsaglia's xorshift: the same frames on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[test]
fn mutated_frames_are_unwrapped_whole_or_left() {
    let harness = Harness::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let seeds: Vec<_> = packets()
        .into_iter()
        .flat_map(|(_, inner)| TUNNELS.map(|tunnel| tunnel.around(&packet(&inner))))
        .flat_map(|frame| [frame.clone().build(), frame.vlan(0x8100, 9).build()])
        .filter(|frame| frame.len() < 200)
        .collect();
    let mut unwrapped = 0;
    for _ in 0..20_000 {
        let mut frame = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        if random.below(4) == 0 {
            frame.truncate(LEAST.max(random.below(frame.len() + 1)));
        }
        let ran = harness.run(&frame);
        assert_ne!(ran.counter, "drop-internal", "{}", describe(&frame));
        if !ran.counter.starts_with("unwrapped-") {
            continue;
        }
        unwrapped += 1;
        let link = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
        let gone = frame.len() - ran.bytes.len();
        assert_eq!(ran.bytes[..link - 2], frame[..link - 2], "the link header's start");
        let version = ran.bytes[link] >> 4;
        let ether_type = if version == 4 { [8, 0] } else { [0x86, 0xdd] };
        assert_eq!(ran.bytes[link - 2..link], ether_type);
        // Only a congestion mark and the IPv4 checksum may differ.
        for (at, (now, then)) in ran.bytes[link..].iter().zip(&frame[link + gone..]).enumerate() {
            let may_differ = if version == 4 { [1, 10, 11].contains(&at) } else { at == 1 };
            assert!(now == then || may_differ, "byte {at} of\n{}", describe(&frame));
        }
    }
    assert!(unwrapped > 2000, "only {unwrapped} mutants were unwrapped");
}

#[test]
fn ordinary_traffic_is_counted_as_such() {
    let harness = Harness::new();
    for protocol in [1, 2, TCP, UDP, 47, 50, 58, 59, 89, 132] {
        for frame in [Frame::other4(protocol, &[0; 40]), Frame::other6(protocol, &[0; 40])] {
            harness.leaves(&format!("protocol {protocol}"), "pass-not-tunnel", &frame.build());
        }
    }
}
