//! The parser on any frame: it must agree with the [plain](super::plain) idea of a packet about what belongs to a flow, and
//! what is forwarded must be what arrived, one hop on.
#![allow(unreachable_pub, reason = "for whoever includes it")]

use super::plain::{self, ETHERNET, Packet as Plain, UDP};
use ctl::config::{Mode, Protocol, Scheduler};
use dataplane::affinity::Clients;
use dataplane::conn::Timeouts;
use dataplane::counters::WorkerCounters;
use dataplane::flow::{FIRST_PROBE_PORT, Secret};
use dataplane::packet::{Packet, VecPacket};
use dataplane::pipeline::{Arrival, NO_VERDICTS, Pipeline, Settings};
use dataplane::route::NextHop;
use dataplane::scheduler::{self, Candidate, HashFields, MaglevParameters};
use dataplane::service::Service;
use dataplane::snapshot::{Backend, Parts, Port, Snapshot};
use dataplane::steering::Steering;
use dataplane::tunnel;
use dataplane::verdict::{DropReason, Verdict};
use dataplane::wire;
use dataplane::wire::ethernet::Mac;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEXT_MAC: [u8; 6] = [2, 0, 0, 0, 0xaa, 1];
const MTU: u16 = 1500;

/// Two balancers: one without services, and one that is the next hop to everywhere.
struct Pair {
    blank: Pipeline,
    open: Pipeline,
    now: u32,
}

fn parts() -> Parts {
    let addresses = ["10.0.0.2/24", "2001:db8::2/64"].map(|address| address.parse().expect("an address"));
    Parts {
        generation: 1,
        ports: vec![Port { mac: Mac(OUR_MAC), mtu: MTU, addresses: addresses.into(), host: None }],
        ..Parts::default()
    }
}

/// With `dsr` services for every address and port.
fn open() -> Parts {
    let mut parts = parts();
    let hosts: [IpAddr; 2] = ["10.0.0.9", "2001:db8::9"].map(|address| address.parse().expect("an address"));
    for (vip, address) in ["0.0.0.0/0", "::/0"].into_iter().zip(hosts) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let id = parts.services.len() as u32;
            let candidate = Candidate { slot: id, address, port: 0, weight: 1 };
            parts.backends.push(Some(Backend {
                address,
                port: None,
                service: id,
                timeouts: Timeouts::default(),
                removed: false,
                serving: true,
            }));
            parts.services.push(Service {
                id,
                protocol,
                vip: vip.parse().expect("a prefix"),
                ports: "*".parse().expect("ports"),
                mode: Mode::Dsr,
                timeouts: Timeouts::default(),
                hash_fields: HashFields::ALL,
                affinity: None,
                mss: None,
                resets_unknown: false,
                scheduler: scheduler::build(Scheduler::RoundRobin, &[candidate], MaglevParameters::default()),
            });
        }
    }
    parts
}

fn pipeline(parts: Parts) -> Pipeline {
    let secret = Secret::new([7; 48]);
    let mut pipeline = Pipeline::new(Settings {
        worker: 0,
        steering: Arc::new(Steering::keyed(1, secret)),
        max_connections: 512,
        large_pages: false,
        secret,
        maglev: MaglevParameters::default(),
        clients: Clients::new(1, 512, secret),
        counters: Arc::new(WorkerCounters::with_backends(8)),
    })
    .expect("memory");
    let hosts: Vec<IpAddr> = parts.backends.iter().flatten().map(|backend| backend.address).collect();
    pipeline.publish(Arc::new(Snapshot::new(parts)));
    for address in hosts {
        pipeline.update_neighbor(NextHop { port: 0, address }, Some(Mac(NEXT_MAC)));
    }
    pipeline
}

thread_local! {
    static PAIR: RefCell<Pair> =
        RefCell::new(Pair { blank: pipeline(parts()), open: pipeline(open()), now: 0 });
}

fn decide(pipeline: &mut Pipeline, now: u32, frame: &[u8]) -> (Verdict, VecPacket) {
    let mut packets = [VecPacket::new(frame)];
    let mut verdicts = NO_VERDICTS;
    pipeline.process(Arrival { port: 0, now, handed: false }, &mut packets, &mut verdicts);
    let [packet] = packets;
    (verdicts[0], packet)
}

/// What a frame is by the plain idea.
fn flow(frame: &[u8]) -> Option<Plain> {
    let (ethertype, bytes) = (plain::be16(frame.get(..ETHERNET)?, 12), &frame[ETHERNET..]);
    let packet = Plain::parse(bytes).ok()?;
    let version = if ethertype == 0x0800 { 4 } else { 6 };
    let nobody = match packet.source {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => {
            v6.is_multicast() || v6.is_loopback() || v6.is_unspecified() || v6.to_ipv4_mapped().is_some()
        }
    };
    let ours = frame[..6] == OUR_MAC && matches!(ethertype, 0x0800 | 0x86dd) && bytes[0] >> 4 == version;
    (ours && !nobody && !packet.fragment && packet.has_transport(bytes)).then_some(packet)
}

pub fn check(input: &[u8]) {
    let frame = &input[..input.len().min(2000)];
    views(frame.get(ETHERNET..).unwrap_or_default());
    views(frame);
    PAIR.with_borrow_mut(|pair| {
        // What a datagram's fragments leave behind is soon over.
        pair.now = pair.now.wrapping_add(40);
        let now = pair.now;
        let flow = flow(frame);
        let (verdict, packet) = decide(&mut pair.blank, now, frame);
        blank(flow, frame, verdict, packet.data());
        let (verdict, packet) = decide(&mut pair.open, now, frame);
        if let (Some(before), Verdict::Forward(0)) = (flow, verdict) {
            passed(before, frame, packet.data());
        }
        for pipeline in [&mut pair.blank, &mut pair.open] {
            let _ = (pipeline.take_notices(), pipeline.take_released());
            pipeline.expire(now, 2);
        }
    });
}

/// What becomes of a frame where there is no service.
fn blank(flow: Option<Plain>, frame: &[u8], verdict: Verdict, out: &[u8]) {
    match flow {
        Some(packet) if packet.hops <= 1 => assert!(
            matches!(verdict, Verdict::Drop(DropReason::HopLimit) | Verdict::Refuse(DropReason::HopLimit)),
            "no hop left, and {verdict:?}"
        ),
        Some(packet) => {
            let port = packet.ports(&frame[ETHERNET..]).1;
            let probe = port >= FIRST_PROBE_PORT && matches!(verdict, Verdict::Deliver);
            assert!(probe || verdict == Verdict::Drop(DropReason::NoService), "a flow, and {verdict:?}");
        }
        None => assert!(
            !matches!(verdict, Verdict::Drop(DropReason::NoService) | Verdict::Forward(_) | Verdict::Hold(_)),
            "no flow, and {verdict:?}"
        ),
    }
    if matches!(verdict, Verdict::Answer | Verdict::Refuse(_)) {
        assert_eq!(out[6..12], OUR_MAC, "an answer is from us");
        assert_eq!(plain::verify(out, 0), Ok(()), "{verdict:?}");
    }
}

/// A packet that went on is what it was but for the hardware addresses and the hop limit.
fn passed(before: Plain, frame: &[u8], out: &[u8]) {
    assert_eq!((&out[..6], &out[6..12]), (&NEXT_MAC[..], &OUR_MAC[..]));
    assert_eq!(out.len(), frame.len());
    let (old, new) = (&frame[ETHERNET..], &out[ETHERNET..]);
    let after = Plain::parse(new).expect("well-formed as before");
    assert_eq!(after, Plain { hops: before.hops - 1, ..before });
    let header = if old[0] >> 4 == 4 { [8, 10, 11] } else { [7; 3] };
    let changed = (0..old.len()).find(|at| old[*at] != new[*at] && !header.contains(at));
    assert_eq!(changed, None, "nothing else changes");
}

/// Every view of the wire, on bytes that no check has seen.
fn views(bytes: &[u8]) {
    let _ = wire::arp::Arp::parse(bytes).map(|arp| (arp.operation(), arp.sender_mac(), arp.target_ip()));
    let _ = wire::icmp::Icmp::parse(bytes).map(|icmp| (icmp.kind(), icmp.code(), icmp.rest()));
    let _ = wire::gre::Gre::parse(bytes).map(|gre| (gre.ethertype(), gre.header_len()));
    let _ = wire::gue::Gue::parse(bytes);
    for number in [4, UDP, 41, 47] {
        if let Some(at) = tunnel::inner_offset(number, bytes) {
            assert!(at <= bytes.len(), "the inner packet of protocol {number} begins at {at}");
        }
    }
    if let Ok(quote) = wire::quote::Quote::parse(bytes) {
        assert!(quote.l4 + wire::quote::PAYLOAD <= bytes.len());
    }
    let v4 = wire::ipv4::Ipv4::parse(bytes, bytes.len());
    let v6 = wire::ipv6::Ipv6::parse(bytes, bytes.len());
    if (v4.is_ok() || v6.is_ok())
        && let Ok(fragment) = wire::fragment::Fragment::parse(bytes)
    {
        assert!(fragment.l4 + fragment.len <= bytes.len());
        assert!(u16::try_from(fragment.offset + fragment.len).is_ok());
    }
    if let Ok(ip) = v6 {
        let _ = wire::ndp::parse(&bytes[wire::ipv6::LEN..], ip.source(), ip.destination(), ip.hop_limit());
    }
    if let Ok(udp) = wire::udp::Udp::parse(bytes, bytes.len()) {
        assert!((8..=bytes.len()).contains(&udp.len()));
    }
    if let Ok(tcp) = wire::tcp::Tcp::parse(bytes, bytes.len()) {
        assert!((20..=bytes.len()).contains(&tcp.header_len()));
    }
}
