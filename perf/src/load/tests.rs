//! The whole generator against devices in memory: a mirror that behaves, and ones that do not. A verifier that cannot fail
//! verifies nothing.

use super::engine::{Engine, NEVER, Offer, Rate, Settings, Streams};
use super::frame::Transport;
use super::order::{Pattern, Sequence};
use super::tally::Tally;
use super::world::{Mode, Scene, World};
use crate::traffic::{self, Family};
use dataplane::io::memory::{MemoryQueue, Wire};
use dataplane::wire::ethernet::Mac;
use dataplane::wire::tcp::flag;
use dataplane::worker::Clock;

/// A microsecond each time that it is read.
#[derive(Debug, Default)]
struct Ticks(u64);

impl Clock for Ticks {
    fn cycles(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn hertz(&self) -> u64 {
        1_000_000
    }
}

const DEVICE: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn engine(mode: Mode, family: Family, streams: &Streams) -> (Engine<MemoryQueue, Ticks>, Wire) {
    let scene = Scene { mode, family, flows: 100, backends: 4 };
    let settings = Settings {
        replies: mode.has_replies(),
        window: 256,
        patient: false,
        talks: 16,
        check_mask: 0,
        latency_mask: NEVER,
        flags: flag::ACK,
    };
    let (queue, wire) = MemoryQueue::pair();
    let sequence = Sequence::new(scene.flows, Pattern::Random);
    let mut engine =
        Engine::new(vec![queue], Ticks::default(), World::new(&scene, 1), streams, sequence, settings);
    engine.set_balancer(0, DEVICE);
    (engine, wire)
}

fn udp(fragments: bool) -> Streams {
    Streams { transport: Transport::Udp, sizes: vec![64], fragments }
}

/// What `device` makes of each frame goes back, for so many turns.
fn run(
    engine: &mut Engine<MemoryQueue, Ticks>,
    wire: &Wire,
    offer: &mut Offer,
    device: &mut dyn FnMut(Vec<u8>) -> Vec<Vec<u8>>,
) -> Tally {
    let mut nothing = Offer::default();
    for turn in 0..60 {
        engine.turn(if turn < 40 { &mut *offer } else { &mut nothing });
        while let Some(frame) = wire.receive() {
            for frame in device(frame) {
                wire.send(&frame);
            }
        }
    }
    engine.tally
}

fn streams() -> Offer {
    Offer { streams: Rate::Max, ..Offer::default() }
}

fn swap_macs(mut frame: Vec<u8>) -> Vec<u8> {
    let (destination, source) = frame[..12].split_at_mut(6);
    destination.swap_with_slice(source);
    frame
}

/// Direct server return: from the device, to the backend that the client's port names.
fn to_backend(mut frame: Vec<u8>) -> Vec<u8> {
    let port_at = if frame[12..14] == [0x08, 0x00] { 35 } else { 55 };
    let n = frame[port_at] % 4;
    frame[..6].copy_from_slice(&World::backend_mac(n).0);
    frame[6..12].copy_from_slice(&DEVICE.0);
    frame
}

#[test]
fn a_mirror_is_found_right() {
    for family in [Family::V4, Family::V6] {
        let (mut engine, wire) = engine(Mode::Echo, family, &udp(false));
        let tally = run(&mut engine, &wire, &mut streams(), &mut |frame| vec![swap_macs(frame)]);
        assert!(tally.received() > 500, "{tally:?}");
        assert_eq!((tally.lost(), tally.faults.total(), tally.duplicated_packets), (0, 0, 0), "{tally:?}");
        assert_eq!(tally.checked_packets, tally.received());
    }
}

#[test]
fn backends_are_remembered_and_fragments_understood() {
    for family in [Family::V4, Family::V6] {
        for fragments in [false, true] {
            let (mut engine, wire) = engine(Mode::Dsr, family, &udp(fragments));
            // A fragment that is not the first has no port: all flows to one backend then.
            let mut device = |frame: Vec<u8>| {
                let mut frame = to_backend(frame);
                frame[5] = if fragments { 1 } else { frame[5] };
                vec![frame]
            };
            let tally = run(&mut engine, &wire, &mut streams(), &mut device);
            assert!(tally.received() > 500, "{tally:?}");
            assert_eq!(
                (tally.lost(), tally.faults.total(), tally.duplicated_packets),
                (0, 0, 0),
                "{tally:?}"
            );
            assert_eq!(engine.known_flows(), 100);
        }
    }
}

#[test]
fn each_misdeed_is_counted_as_what_it_is() {
    // By the number of the frame, the hundredth misbehaves.
    type Misdeed = fn(&mut Vec<u8>);
    type Counter = fn(&Tally) -> u64;
    let cases: [(Misdeed, Counter); 7] = [
        (|frame| frame[11] ^= 1, |tally| tally.faults.ethernet),
        (|frame| frame[5] ^= 1, |tally| tally.faults.other_backend),
        (|frame| frame[24] ^= 1, |tally| tally.faults.header_checksum),
        (|frame| frame[40] ^= 1, |tally| tally.faults.transport_checksum),
        // A bit of the payload, seen by the checksum alone.
        (|frame| frame[59] ^= 1, |tally| tally.faults.transport_checksum),
        // Another port and a checksum that fits it.
        (
            |frame| {
                frame[36..38].copy_from_slice(&81u16.to_be_bytes());
                let sum = u16::from_be_bytes([frame[40], frame[41]]);
                frame[40..42].copy_from_slice(&(sum - 1).to_be_bytes());
            },
            |tally| tally.faults.port,
        ),
        // Shorter than its headers say.
        (|frame| frame.truncate(59), |tally| tally.stranger_packets + tally.faults.header),
    ];
    for (n, (misdeed, counted)) in cases.into_iter().enumerate() {
        let (mut engine, wire) = engine(Mode::Dsr, Family::V4, &udp(false));
        let mut number = 0;
        let mut device = |frame: Vec<u8>| {
            let mut frame = to_backend(frame);
            number += 1;
            // Late enough that the flow's backend is known.
            if number == 900 {
                misdeed(&mut frame);
            }
            vec![frame]
        };
        let tally = run(&mut engine, &wire, &mut streams(), &mut device);
        assert_eq!(counted(&tally), 1, "case {n}: {tally:?}");
        assert_eq!(tally.faults.total() + tally.stranger_packets, 1, "case {n}: {tally:?}");
    }
}

#[test]
fn loss_and_duplicates_are_counted() {
    let (mut engine, wire) = engine(Mode::Echo, Family::V4, &udp(false));
    let mut number = 0;
    let mut device = |frame: Vec<u8>| {
        number += 1;
        match number % 100 {
            0 => vec![],
            1 | 2 => vec![swap_macs(frame.clone()), swap_macs(frame)],
            _ => vec![swap_macs(frame)],
        }
    };
    let tally = run(&mut engine, &wire, &mut streams(), &mut device);
    let hundreds = tally.sent() / 100;
    assert!(hundreds > 5);
    assert_eq!(tally.lost(), hundreds, "{tally:?}");
    assert!((hundreds * 2..=hundreds * 2 + 2).contains(&tally.duplicated_packets), "{tally:?}");
}

/// Network address translation without a table: the backend is named by the client's port, checksums are computed anew.
fn translate(mut frame: Vec<u8>) -> Vec<u8> {
    let to_client = frame[30] == 198;
    let n = if to_client { 0 } else { frame[35] % 4 };
    if to_client {
        let std::net::IpAddr::V4(vip) = traffic::vip(Family::V4) else { return frame };
        frame[26..30].copy_from_slice(&vip.octets());
        frame[34..36].copy_from_slice(&traffic::SERVICE_PORT.to_be_bytes());
        frame[..6].copy_from_slice(&World::gateway_mac().0);
    } else {
        let std::net::IpAddr::V4(backend) = traffic::backend(n, Family::V4) else { return frame };
        frame[30..34].copy_from_slice(&backend.octets());
        frame[36..38].copy_from_slice(&traffic::BACKEND_PORT.to_be_bytes());
        frame[..6].copy_from_slice(&World::backend_mac(n).0);
    }
    frame[6..12].copy_from_slice(&DEVICE.0);
    frame[24..26].fill(0);
    let sum = dataplane::wire::checksum::Sum::default().bytes(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let (protocol, at) = if frame[23] == 6 { (6, 50) } else { (17, 40) };
    frame[at..at + 2].fill(0);
    let len = usize::from(u16::from_be_bytes([frame[16], frame[17]])) - 20;
    let sum = super::frame::transport_sum(&frame, 14, 34, Family::V4, protocol, len).checksum();
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn answers_pass_a_translator_and_come_back() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let streams_of = Streams { transport, sizes: vec![64, 570], fragments: false };
        let (mut engine, wire) = engine(Mode::Nat, Family::V4, &streams_of);
        let tally = run(&mut engine, &wire, &mut streams(), &mut |frame| vec![translate(frame)]);
        assert!(tally.replies_received_packets > 300, "{tally:?}");
        assert_eq!((tally.lost(), tally.faults.total(), tally.duplicated_packets), (0, 0, 0), "{tally:?}");
        assert_eq!(tally.checked_packets, tally.received());
    }
}

#[test]
fn conversations_pass_a_translator_and_a_mute_way_back() {
    for mode in [Mode::Nat, Mode::Dsr] {
        let (mut engine, wire) = engine(mode, Family::V4, &udp(false));
        let mut offer = Offer { talks: Rate::Max, ..Offer::default() };
        let mut device = |frame| vec![if mode == Mode::Nat { translate(frame) } else { to_backend(frame) }];
        let tally = run(&mut engine, &wire, &mut offer, &mut device);
        assert!(tally.conversations_completed > 50, "{tally:?}");
        assert_eq!(tally.conversations_completed, tally.conversations_started, "{tally:?}");
        let packets = if mode == Mode::Nat { 10 } else { 6 };
        assert_eq!(tally.talk_received_packets, tally.conversations_completed * packets);
        assert_eq!((tally.lost(), tally.faults.total()), (0, 0), "{tally:?}");
    }
}

#[test]
fn tunnels_are_opened() {
    for mode in [Mode::Ipip, Mode::Gue, Mode::Gre] {
        let (mut engine, wire) = engine(mode, Family::V4, &udp(false));
        let mut device = |frame: Vec<u8>| {
            let n = frame[35] % 4;
            let shim: &[u8] = match mode {
                Mode::Gre => &[0, 0, 0x08, 0x00],
                // Variant 1: ports, length, and no checksum, which IPv4 allows.
                Mode::Gue => &[0xc0, 0x01, 0x17, 0xc0, 0, 54, 0, 0],
                _ => &[],
            };
            let protocol = match mode {
                Mode::Gre => 47,
                Mode::Gue => 17,
                _ => 4,
            };
            let std::net::IpAddr::V4(backend) = traffic::backend(n, Family::V4) else { return vec![] };
            let mut outer = vec![0; 34];
            let len = (20 + shim.len() + frame.len() - 14) as u16;
            let written = dataplane::wire::ipv4::emit(
                &mut outer[14..],
                [10, 1, 0, 1].into(),
                backend,
                protocol,
                64,
                len,
            );
            assert!(written.is_ok());
            outer[..6].copy_from_slice(&World::backend_mac(n).0);
            outer[6..12].copy_from_slice(&DEVICE.0);
            outer[12..14].copy_from_slice(&[0x08, 0x00]);
            outer.extend_from_slice(shim);
            outer.extend_from_slice(&frame[14..]);
            vec![outer]
        };
        let tally = run(&mut engine, &wire, &mut streams(), &mut device);
        assert!(tally.received() > 500, "{mode:?} {tally:?}");
        assert_eq!((tally.lost(), tally.faults.total()), (0, 0), "{mode:?} {tally:?}");
        assert_eq!(engine.known_flows(), 100);
    }
}
