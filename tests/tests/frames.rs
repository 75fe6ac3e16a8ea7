//! The frame builder and its reader against a real stack: Linux takes what the one builds, and the
//! other understands what Linux sends. No balancer is involved.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use evenkeel_tests::{
    frame::{
        DESTINATION, Frame, HOP_BY_HOP, ICMP, ICMPV6, MOST_QUOTED4, MOST_QUOTED6, Parsed, TCP, UDP,
        fragments4, fragments6, parse, verify_checksums,
    },
    servers::{PORT, TinyWeb, UdpEcho},
    topology::{Family, Lab, Wiring},
    wire::Wire,
};

const PATIENCE: Duration = Duration::from_secs(5);
const CLIENT_PORT: u16 = 40_000;
/// The client's and the backend's MAC address on the lab's cable.
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0x20, 1], [2, 0, 0, 0, 0x10, 1]);
/// Six bytes of padding, as an option.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// The edge's kernel and a backend on one cable; the frames come from the edge's end of it.
struct Bench {
    lab: Lab,
    wire: Wire,
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new(Wiring::Direct, 1).unwrap();
        let wire = Wire::open(&lab.edge.namespace, "back1").unwrap();
        Self { lab, wire }
    }

    fn near(family: Family) -> IpAddr {
        match family {
            Family::V4 => "10.0.1.1".parse().unwrap(),
            Family::V6 => "fd00:0:0:1::1".parse().unwrap(),
        }
    }

    fn addressed(&self, family: Family, frame: Frame) -> Frame {
        let server = self.lab.backends[0].address(family, PORT);
        frame
            .macs(MACS.0, MACS.1)
            .from(Self::near(family), CLIENT_PORT)
            .to(server.ip(), server.port())
    }

    fn send(&self, frame: &[u8]) {
        self.wire.send(frame).unwrap();
    }

    /// Waits for a packet from the backend, whose checksums must be right.
    fn answer(&self, protocol: u8, wanted: impl Fn(&Parsed) -> bool) -> Parsed {
        let take = |bytes: &[u8]| {
            let parsed = parse(bytes).ok()?;
            let take = parsed.protocol == protocol && wanted(&parsed);
            take.then(|| verify_checksums(bytes).map(|()| parsed))
        };
        self.wire.receive(PATIENCE, take).unwrap().unwrap()
    }
}

#[test]
fn datagrams_arrive_whole_plain_and_with_everything_on_the_way() {
    let bench = Bench::new();
    let echo = UdpEcho::start(&bench.lab.backends[0]).unwrap();
    let payload: Vec<u8> = (0..3000).map(|n: usize| n.to_le_bytes()[0]).collect();
    // Record route is not copied into fragments; the router alert is.
    let options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0];
    let v4 = bench.addressed(Family::V4, Frame::udp4().dont_fragment(false));
    let v6 = bench.addressed(Family::V6, Frame::udp6());
    let extended = v6.clone().extension(HOP_BY_HOP, &PADDING).extension(DESTINATION, &PADDING);
    let parts = |frame: &Frame| fragments4(&frame.clone().payload(&payload).build(), &[1400, 800]);
    let parts6 =
        |frame: &Frame, id| fragments6(&frame.clone().payload(&payload).build(), id, &[1400, 800]);
    let cases = [
        ("plain", Family::V4, vec![v4.clone().payload(b"x").build()]),
        ("without a checksum", Family::V4, vec![v4.clone().checksum(0).build()]),
        ("with options", Family::V4, vec![v4.clone().ip_options(&options).build()]),
        ("in fragments", Family::V4, parts(&v4.clone().id(1))),
        ("in fragments with options", Family::V4, parts(&v4.ip_options(&options).id(2))),
        ("plain", Family::V6, vec![v6.clone().build()]),
        ("with extension headers", Family::V6, vec![extended.clone().build()]),
        ("in fragments", Family::V6, parts6(&v6, 3)),
        ("in fragments with extension headers", Family::V6, parts6(&extended, 4)),
    ];
    for (name, family, frames) in cases {
        let bind = || Ok(UdpSocket::bind((Bench::near(family), CLIENT_PORT))?);
        let socket = bench.lab.edge.namespace.run(bind).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let before = echo.datagrams();
        for frame in &frames {
            bench.send(frame);
        }
        let mut answer = vec![0; 65_536];
        let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = match frames.len() {
            1 => parse(&frames[0]).unwrap().payload().to_vec(),
            _ => payload.clone(),
        };
        assert_eq!(&answer[..length], [b"web-01 ", &expected[..]].concat(), "{name} {family:?}");
        assert_eq!(echo.datagrams(), before + 1, "{name} {family:?}");
        if frames.len() > 1 {
            // What Linux cuts into fragments itself is read as such.
            let first = bench.answer(UDP, |parsed| parsed.more && parsed.offset == 0);
            assert_eq!(first.source_port, PORT, "{name} {family:?}");
            let last = bench.answer(UDP, |parsed| parsed.is_fragment() && !parsed.more);
            assert_eq!((last.id, last.source_port), (first.id, 0), "{name} {family:?}");
        }
    }
}

#[test]
fn echo_and_handshake_are_answered() {
    let bench = Bench::new();
    let _web = TinyWeb::start(&bench.lab.backends[0]).unwrap();
    let cases = [
        (Family::V4, Frame::echo4(0x4321, 7, b"hello"), Frame::tcp4(), ICMP, 0),
        (Family::V6, Frame::echo6(0x4321, 7, b"hello"), Frame::tcp6(), ICMPV6, 129),
    ];
    for (family, echo, syn, number, reply) in cases {
        let echo = bench.addressed(family, echo);
        bench.send(&echo.build());
        let answer = bench.answer(number, |parsed| parsed.icmp.is_some_and(|icmp| icmp.0 == reply));
        // Linux picks TTL and identification; everything else is the builder's reply.
        let expected = parse(&echo.echo_reply().build()).unwrap();
        assert_eq!(answer.segment, expected.segment, "{family:?}");
        assert_eq!((answer.source, answer.source_mac), (expected.source, expected.source_mac));

        bench.send(&bench.addressed(family, syn).numbers(0xfeed, 0).build());
        let answer = bench.answer(TCP, |parsed| parsed.destination_port == CLIENT_PORT);
        assert_eq!((answer.flags, answer.numbers().1), (0x12, 0xfeed + 1), "{family:?}");
    }
}

#[test]
fn errors_quote_what_was_sent() {
    let bench = Bench::new();
    let cases = [
        (Family::V4, Frame::udp4(), ICMP, (3, 3), MOST_QUOTED4),
        (Family::V6, Frame::udp6(), ICMPV6, (1, 4), MOST_QUOTED6),
    ];
    for (family, frame, number, (kind, code), most) in cases {
        for length in [4, 1400] {
            // Nobody listens.
            let frame = bench.addressed(family, frame.clone()).payload(&vec![9; length]);
            bench.send(&frame.build());
            let is_error = |parsed: &Parsed| parsed.icmp.is_some_and(|icmp| icmp.0 == kind);
            let answer = bench.answer(number, is_error);
            assert_eq!(answer.icmp, Some((kind, code, [0; 4])), "{family:?}");
            assert_eq!(answer.payload(), frame.quoted_within(most), "{family:?} {length}");
            let quoted = answer.inner.unwrap();
            assert_eq!((quoted.source_port, quoted.whole), (CLIENT_PORT, length == 4));
        }
    }
}

#[test]
fn an_error_of_the_builders_is_believed() {
    let bench = Bench::new();
    let host = &bench.lab.backends[0];
    let _echo = UdpEcho::start(host).unwrap();
    for family in Family::BOTH {
        let near = Bench::near(family);
        assert_eq!(host.learnt_mtu(near).unwrap(), None);
        // The backend answers with a full packet, and is told that this was too much.
        let ask = match family {
            Family::V4 => Frame::udp4(),
            Family::V6 => Frame::udp6(),
        };
        bench.send(&bench.addressed(family, ask.payload(&[1; 1300])).build());
        let answer = bench.answer(UDP, |parsed| parsed.source_port == PORT);
        let sent = match family {
            Family::V4 => Frame::udp4().id(answer.id.try_into().unwrap()),
            Family::V6 => Frame::udp6().flow_label(answer.flow_label),
        };
        let sent = sent
            .from(answer.source, answer.source_port)
            .to(answer.destination, answer.destination_port)
            .payload(answer.payload());
        let error = match family {
            Family::V4 => Frame::fragmentation_needed(1281, &sent.quoted(8)),
            Family::V6 => Frame::packet_too_big(1281, &sent.quoted_within(MOST_QUOTED6)),
        };
        bench.send(&bench.addressed(family, error).build());
        let learnt = || {
            let learnt = host.learnt_mtu(near)?;
            anyhow::ensure!(learnt == Some(1281), "{learnt:?}");
            Ok(())
        };
        evenkeel_tests::wait::eventually("the error is believed", PATIENCE, learnt).unwrap();
    }
}
