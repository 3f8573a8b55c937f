//! Whole workers, fed by a small language: frames of clients, backends and routers, times, snapshots, neighbours. After
//! every step the books balance, and every frame that left is held against the one that it came from.
//!
//! Workers are used again for the next input, once all that they knew has run out: making them costs a hundred times as
//! much as what an input does. A failure that needs what they still know (an epoch, a place in a round) does not repeat by
//! itself; `World::FRESH` inputs in a row do.
#![allow(unreachable_pub, missing_debug_implementations, reason = "for whoever includes it")]

mod frame;
mod judge;
mod world;

use super::bed::{LAN, WAN};
use super::plain::{self, ETHERNET, Packet as Plain};
use frame::{End, Shape};
use std::cell::RefCell;
use std::net::IpAddr;
use world::{SERVICES, World};

/// Bytes of the input; zeros behind its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

thread_local! {
    static WORLDS: RefCell<[Option<World>; World::LAYOUTS]> = const { RefCell::new([const { None }; World::LAYOUTS]) };
}

/// Most steps of an input.
const STEPS: usize = 64;

/// Plays `input` to a balancer.
pub fn check(input: &[u8]) {
    let mut reader = Reader(input);
    let layout = reader.below(World::LAYOUTS);
    WORLDS.with_borrow_mut(|worlds| {
        let mut world = worlds[layout].take().unwrap_or_else(|| World::new(layout));
        world.begin();
        let mut steps = 0;
        while !reader.is_over() && steps < STEPS {
            step(&mut world, &mut reader);
            steps += 1;
        }
        world.set_patience(0);
        world.settle();
        world.end();
        worlds[layout] = (!world.is_worn()).then_some(world);
    });
}

fn client(reader: &mut Reader<'_>, v6: bool) -> End {
    let byte = reader.byte();
    let port = 40_000 + u16::from(byte >> 3);
    let address: IpAddr = match (byte & 7, v6) {
        // A backend is a client.
        (7, false) => [10, 1, 0, 12].into(),
        (7, true) => "2001:db8:1::12".parse().expect("an address"),
        // A host on the WAN's link, which is not known at first.
        (6, false) => [10, 0, 0, 77].into(),
        (6, true) => "2001:db8::77".parse().expect("an address"),
        (n, false) => [198, 51, 100, n].into(),
        (n, true) => format!("2001:db8:ffff::{n}").parse().expect("an address"),
    };
    (address, port)
}

fn step(world: &mut World, reader: &mut Reader<'_>) {
    match reader.below(16) {
        0..=3 => request(world, reader),
        4..=6 => answer(world, reader),
        7 => error(world, reader),
        8 => fragments(world, reader),
        9 => again(world, reader),
        10 => neighbors_talk(world, reader),
        11 => {
            let len = reader.below(128);
            let port = if reader.byte() & 1 == 0 { WAN } else { LAN };
            let mut bytes = frame::ethernet(port, 0x0800).to_vec();
            bytes.extend(reader.bytes(len));
            world.send(port, reader.byte(), bytes);
        }
        12 => world.pass(1 << (reader.byte() % 24)),
        13 => world.publish(reader.below(World::MENU)),
        14 => world.neighbor(reader.below(256), reader.byte()),
        _ => world.set_patience(reader.below(40)),
    }
}

/// A packet from a client to a service.
fn request(world: &mut World, reader: &mut Reader<'_>) {
    let service = &SERVICES[reader.below(SERVICES.len())];
    let from = client(reader, service.v6());
    let shape = Shape::read(reader, service.tcp);
    world.send(WAN, reader.byte(), frame::packet(WAN, from, service.end(), &shape));
}

/// What a backend answers to one of the last packets that it got.
fn answer(world: &mut World, reader: &mut Reader<'_>) {
    let number = reader.byte();
    let Some((_, heard)) = world.left(LAN, number) else { return };
    let bytes = &heard[ETHERNET..];
    let Ok(packet) = Plain::parse(bytes) else { return };
    if packet.fragment || !packet.has_transport(bytes) {
        return;
    }
    let ports = packet.ports(bytes);
    let shape = Shape::read(reader, packet.protocol == plain::TCP);
    let bytes = frame::packet(LAN, (packet.destination, ports.1), (packet.source, ports.0), &shape);
    world.send(LAN, reader.byte(), bytes);
}

/// An ICMP error about one of the last packets that left.
fn error(world: &mut World, reader: &mut Reader<'_>) {
    let (number, how) = (reader.byte(), reader.byte());
    let port = if how & 1 == 0 { WAN } else { LAN };
    let Some((_, about)) = world.left(port, number) else { return };
    let about = about[ETHERNET..].to_vec();
    let Ok(packet) = Plain::parse(&about) else { return };
    let speaker: IpAddr = match (how >> 1 & 1, packet.source) {
        (0, _) => packet.destination,
        (_, IpAddr::V4(_)) => [203, 0, 113, 9].into(),
        (_, IpAddr::V6(_)) => "2001:db8:eeee::9".parse().expect("an address"),
    };
    let cut = if how & 4 == 0 { about.len() } else { reader.below(256) };
    let kind = reader.byte();
    let quote = &about[..cut.min(about.len()).min(1200)];
    let bytes = frame::icmp_error(port, (speaker, packet.source), kind, reader.byte(), quote);
    world.send(port, reader.byte(), bytes);
}

/// A datagram in pieces, some of them missing, in any order, perhaps with another cut.
fn fragments(world: &mut World, reader: &mut Reader<'_>) {
    let service = &SERVICES[reader.below(SERVICES.len())];
    let from = client(reader, service.v6());
    let shape = Shape::read(reader, service.tcp);
    let whole = frame::packet(WAN, from, service.end(), &shape);
    let (size, identification) = (8 + 8 * reader.below(40), reader.byte());
    let pieces = frame::fragments(&whole, size, identification);
    let (mask, order, shift) = (reader.byte(), reader.byte(), reader.byte());
    for n in 0..pieces.len().min(8) {
        let at = if order & 1 == 1 { pieces.len().min(8) - 1 - n } else { n };
        if mask >> at & 1 == 0 {
            let mut piece = pieces[at].clone();
            if shift > 250 {
                frame::shift(&mut piece, i32::from(shift) - 253);
            }
            world.send(WAN, order >> 1, piece);
        }
    }
}

/// The last frame once more, with some bytes changed.
fn again(world: &mut World, reader: &mut Reader<'_>) {
    let Some((port, mut bytes)) = world.last_sent() else { return };
    let how = reader.byte();
    for _ in 0..how & 3 {
        let (at, value) = (reader.below(160), reader.byte());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= value;
        }
    }
    if how & 4 != 0 {
        let len = reader.below(256);
        bytes.truncate(len);
    }
    if bytes.len() > ETHERNET {
        match how >> 3 & 3 {
            1 => plain::seal_v4(&mut bytes[ETHERNET..]),
            2 => plain::seal(&mut bytes[ETHERNET..]),
            _ => {}
        }
    }
    world.send(port, how >> 5, bytes);
}

/// ARP, neighbour discovery, echo, and the host's own traffic.
fn neighbors_talk(world: &mut World, reader: &mut Reader<'_>) {
    let (how, who) = (reader.byte(), reader.byte());
    let port = if how & 1 == 0 { WAN } else { LAN };
    let bytes = match how >> 1 & 3 {
        0 => frame::arp(port, how >> 3, who),
        1 => frame::discovery(port, how >> 3, who),
        2 => {
            let shape = Shape::read(reader, how & 8 == 0).alive();
            let (own, to) = match (port, how & 16 == 0) {
                (WAN, true) => ("10.0.0.2", "198.51.100.1"),
                (WAN, false) => ("2001:db8::2", "2001:db8:ffff::1"),
                (_, true) => ("10.1.0.1", "10.1.0.11"),
                (_, false) => ("2001:db8:1::1", "2001:db8:1::11"),
            };
            let end = |address: &str, port| -> End { (address.parse().expect("an address"), port) };
            let bytes = frame::from_host(frame::packet(port, end(own, 22), end(to, 40_000), &shape));
            return world.send_from_host(port, how >> 6, &bytes);
        }
        _ => {
            let service = &SERVICES[usize::from(who) % SERVICES.len()];
            frame::echo(port, client(reader, service.v6()).0, service.end().0, reader.below(200))
        }
    };
    world.send(port, how >> 6, bytes);
}
