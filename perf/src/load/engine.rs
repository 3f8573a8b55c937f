//! The loop: receive and check, answer, send what is due.

use super::check::{self, Checker, Fault};
use super::fragment::{FRAGMENT_MARK, Fragments};
use super::frame::{
    self, REPLY, REQUEST, Segment, Stamp, Template, Transport, WINDOW, WINDOW_STREAM, WINDOW_SYN, WINDOW_TALK,
};
use super::neighbor;
use super::order::Sequence;
use super::pace::Pace;
use super::seen::Seen;
use super::talk::{self, Next, Talk};
use super::tally::Tally;
use super::world::World;
use crate::traffic::Family;
use dataplane::io::{BURST, Burst, Queue};
use dataplane::packet::Packet;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::tcp;
use dataplane::worker::Clock;
use hdrhistogram::Histogram;

/// How fast one kind of packets is offered.
#[derive(Debug, Clone, Default)]
pub(crate) enum Rate {
    #[default]
    None,
    /// As fast as they come back.
    Max,
    Paced(Pace),
}

/// What is offered, all at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offer {
    pub(crate) streams: Rate,
    pub(crate) floods: Rate,
    /// Starts of conversations.
    pub(crate) talks: Rate,
}

/// How the generator behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Backends answer requests.
    pub(crate) replies: bool,
    /// Packets on their way at most, where the rate is [`Rate::Max`].
    pub(crate) window: u64,
    /// The window holds for steady rates as well, which then wait for a device that was kept from its CPU.
    pub(crate) patient: bool,
    /// Conversations going on at most.
    pub(crate) talks: u64,
    /// Of consecutive numbers, those whose low bits under this mask are zero are checked.
    pub(crate) check_mask: u32,
    /// And those whose latency is recorded.
    pub(crate) latency_mask: u32,
    /// TCP flags of requests.
    pub(crate) flags: u8,
}

/// Records no latency: no number has these bits zero but one in four thousand millions.
pub(crate) const NEVER: u32 = u32::MAX;

/// Packets that wait for the end of the turn on one side, and what they are: bit `i` for packet `i`.
struct Outgoing<P> {
    packets: Burst<P>,
    kinds: [u32; 3],
}

/// What a packet on its way out is, in the order of [`Outgoing::kinds`]; a request is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reply,
    Flood,
    Talk,
    Request,
}

/// The longest pause that is no disturbance: two orders of magnitude longer than a turn, and as long as a ring lasts.
const DISTURBANCE_MICROS: u64 = 50;
/// A conversation that takes longer has lost a packet.
const PATIENCE_MILLIS: u64 = 100;
/// A window that stays full so long is full of packets that were lost: longer than the kernel keeps either side from its CPU.
const STUCK_MILLIS: u64 = 20;

/// The generator on its ports.
pub(crate) struct Engine<Q: Queue, C: Clock> {
    queues: Vec<Q>,
    clock: C,
    world: World,
    /// By side, once known.
    pub(crate) balancer: Vec<Option<Mac>>,
    layout: frame::Layout,
    pub(crate) settings: Settings,
    sequence: Sequence,
    /// One for each frame size, in turn.
    templates: Vec<Template>,
    fragments: Option<Fragments>,
    turn_of: usize,
    flood: Template,
    segments: [Template; 2],
    number: u32,
    flood_number: u32,
    checker: Checker,
    seen: [Seen; 2],
    talk: Talk,
    talk_due: u64,
    out: Vec<Outgoing<Q::Packet>>,
    spare: Burst<Q::Packet>,
    received: Burst<Q::Packet>,
    pub(crate) tally: Tally,
    pub(crate) latency: Histogram<u64>,
    /// Packets that fill the window and will not come back.
    written_off: u64,
    stuck_since: Option<(u64, u64)>,
    /// Longest time between two turns in this run, in cycles, and how many were disturbances.
    pub(crate) longest_pause: u64,
    pub(crate) disturbances: u64,
}

/// What the streams are made of.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) transport: Transport,
    /// Frame sizes, frame check sequence included.
    pub(crate) sizes: Vec<u16>,
    pub(crate) fragments: bool,
}

impl<Q: Queue, C: Clock> std::fmt::Debug for Engine<Q, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl<Q: Queue, C: Clock> Engine<Q, C> {
    /// A generator over one queue of each side's port.
    pub(crate) fn new(
        queues: Vec<Q>,
        clock: C,
        world: World,
        streams: &Streams,
        sequence: Sequence,
        settings: Settings,
    ) -> Self {
        let family = world.scene.family;
        let layout = frame::Layout { family, transport: streams.transport };
        // The balancer's address is written when it is known.
        let nobody = Mac::default();
        let template =
            |&size: &u16| Template::stream(layout, usize::from(size) - frame::FCS, settings.flags, nobody);
        let sides = queues.len();
        let outgoing = || Outgoing { packets: Burst::new(), kinds: [0; 3] };
        Self {
            balancer: vec![None; sides],
            templates: streams.sizes.iter().map(template).collect(),
            fragments: streams.fragments.then(|| Fragments::new(family, streams.sizes[0])),
            turn_of: 0,
            flood: Template::segment(family, 0, WINDOW_SYN, nobody),
            segments: [0, talk::DATA].map(|data| Template::segment(family, data, WINDOW_TALK, nobody)),
            number: 0,
            flood_number: 0,
            checker: Checker::new(&world),
            seen: [Seen::new(), Seen::new()],
            talk: Talk::new(),
            talk_due: 0,
            out: (0..sides).map(|_| outgoing()).collect(),
            spare: Burst::new(),
            received: Burst::new(),
            tally: Tally::default(),
            latency: new_histogram(),
            written_off: 0,
            stuck_since: None,
            longest_pause: 0,
            disturbances: 0,
            queues,
            clock,
            world,
            layout,
            settings,
            sequence,
        }
    }

    pub(crate) fn clock(&mut self) -> &mut C {
        &mut self.clock
    }

    pub(crate) fn set_sequence(&mut self, sequence: Sequence) -> Sequence {
        std::mem::replace(&mut self.sequence, sequence)
    }

    /// TCP flags of the requests from now on.
    pub(crate) fn set_flags(&mut self, flags: u8) {
        self.settings.flags = flags;
        for template in &mut self.templates {
            template.set_flags(flags);
        }
    }

    /// Requests made so far, modulo 2^32.
    pub(crate) fn requests(&self) -> u32 {
        self.number
    }

    /// Flows whose backend is known.
    pub(crate) fn known_flows(&self) -> usize {
        self.checker.known()
    }

    /// The balancer's hardware address on a side, wherever it is needed.
    pub(crate) fn set_balancer(&mut self, side: usize, mac: Mac) {
        self.balancer[side] = Some(mac);
        if side == 0 {
            let templates = self.templates.iter_mut().chain(&mut self.segments).chain([&mut self.flood]);
            templates.for_each(|template| template.set_destination(mac));
            if let Some(fragments) = &mut self.fragments {
                fragments.set_destination(mac);
            }
        }
    }

    /// Sends a frame that is no test packet.
    pub(crate) fn send_frame(&mut self, side: usize, frame: &[u8]) {
        if let Some(mut packet) = self.queues[side].allocate()
            && packet.set_len(frame.len())
        {
            packet.data_mut().copy_from_slice(frame);
            let mut burst = Burst::new();
            burst.push(packet);
            self.queues[side].transmit(&mut burst);
        }
    }

    /// Begins a measurement: what is recorded from now on.
    pub(crate) fn begin(&mut self) {
        self.latency.reset();
        self.longest_pause = 0;
        self.disturbances = 0;
    }

    /// Runs for `cycles`; returns how many it really took.
    pub(crate) fn run(&mut self, offer: &mut Offer, cycles: u64) -> u64 {
        let begin = self.clock.cycles();
        let disturbance = self.clock.hertz() / 1_000_000 * DISTURBANCE_MICROS;
        let mut last = begin;
        loop {
            self.turn(offer);
            let now = self.clock.cycles();
            let pause = now - last;
            if pause > disturbance {
                self.disturbances += 1;
            }
            self.longest_pause = self.longest_pause.max(pause);
            last = now;
            if now - begin >= cycles {
                return now - begin;
            }
        }
    }

    /// Receives, and answers, until nothing came for `quiet` cycles.
    pub(crate) fn drain(&mut self, quiet: u64) {
        let mut last = self.clock.cycles();
        let mut received = self.tally.received();
        let mut nothing = Offer::default();
        loop {
            self.turn(&mut nothing);
            let now = self.clock.cycles();
            if self.tally.received() != received {
                received = self.tally.received();
                last = now;
            } else if now - last > quiet {
                self.written_off = self.tally.sent().saturating_sub(self.tally.received());
                return;
            }
        }
    }

    /// Every side once: what came, then what is due.
    pub(crate) fn turn(&mut self, offer: &mut Offer) {
        for side in 0..self.queues.len() {
            let mut received = std::mem::take(&mut self.received);
            self.queues[side].receive(&mut received);
            if !received.is_empty() {
                let now = self.clock.cycles();
                for packet in &received {
                    packet.prefetch();
                }
                for packet in received.drain(..) {
                    self.take(side, packet, now);
                }
            }
            self.received = received;
        }
        self.generate(offer);
        for side in 0..self.queues.len() {
            if !self.out[side].packets.is_empty() {
                self.transmit(side);
            }
        }
    }

    // --- receiving -----------------------------------------------------------------------------------------------

    #[inline(always)]
    fn take(&mut self, side: usize, packet: Q::Packet, now: u64) {
        let data = packet.data();
        let layout = self.layout;
        let (protocol_at, protocol) = match (layout.family, layout.transport) {
            (Family::V4, Transport::Udp) => (23, 17),
            (Family::V4, Transport::Tcp) => (23, 6),
            (Family::V6, Transport::Udp) => (20, 17),
            (Family::V6, Transport::Tcp) => (20, 6),
        };
        let stamp = data.get(layout.payload()..).and_then(Stamp::read);
        match stamp {
            Some(stamp)
                if (stamp.mark == REQUEST || stamp.mark == REPLY)
                    && data[protocol_at] == protocol
                    && data[frame::L3] >> 4 == if layout.family == Family::V4 { 4 } else { 6 } =>
            {
                self.take_stream(side, packet, stamp, now);
            }
            _ => self.take_other(side, packet, now),
        }
    }

    #[inline(always)]
    fn take_stream(&mut self, side: usize, mut packet: Q::Packet, stamp: Stamp, now: u64) {
        let reply = check::is_reply(stamp);
        self.tally.received_bytes += packet.frame_len() as u64;
        let first = self.seen[usize::from(reply)].first(stamp.number);
        self.tally.duplicated_packets += u64::from(!first);
        if reply {
            self.tally.replies_received_packets += 1;
        } else {
            self.tally.requests_received_packets += 1;
        }
        if stamp.number & self.settings.latency_mask == 0 {
            self.latency.saturating_record(now.saturating_sub(stamp.cycles));
        }
        if stamp.number & self.settings.check_mask == 0 {
            self.inspect(side, &packet, stamp.flow, reply, true);
        }
        if self.settings.replies && !reply {
            if let Some(mac) = self.balancer[side] {
                frame::answer(packet.data_mut(), self.layout, mac, stamp, now);
                self.push(side, packet, Kind::Reply);
            }
            return;
        }
        self.keep(packet);
    }

    /// Keeps a packet's buffer for the next one to send.
    #[inline(always)]
    fn keep(&mut self, packet: Q::Packet) {
        // One that is too many is dropped here, and so freed.
        let _ = self.spare.try_push(packet);
    }

    fn inspect(&mut self, side: usize, packet: &Q::Packet, flow: u32, reply: bool, numbered: bool) {
        self.tally.checked_packets += 1;
        let balancer = self.balancer[side].unwrap_or_default();
        let verdict = if packet.frame_len() == packet.data().len() {
            self.checker.check(packet.data(), &self.world, balancer, flow, reply, numbered)
        } else {
            Err(Fault::Header)
        };
        if let Err(fault) = verdict {
            self.tally.faults.count(fault);
        }
    }

    /// What is no packet of a stream in its usual place.
    fn take_other(&mut self, side: usize, packet: Q::Packet, now: u64) {
        let data = packet.data();
        let mode = self.world.scene.mode;
        let inner = if mode.is_tunnel() {
            check::decapsulate(data, mode).map(|(inner, _)| inner)
        } else {
            check::headers(data, frame::L3)
        };
        let Some(inner) = inner else { return self.take_stranger(side, &packet) };
        if inner.transport() == Some(Transport::Tcp) && !inner.offset {
            let window = frame::be16(data, inner.l4 + WINDOW);
            let segment = Segment {
                flags: *data.get(inner.l4 + tcp::at::FLAGS).unwrap_or(&0),
                sequence: frame::be32(data, inner.l4 + tcp::at::SEQUENCE),
                acknowledgment: frame::be32(data, inner.l4 + tcp::at::ACKNOWLEDGMENT),
            };
            match window {
                WINDOW_SYN => return self.take_flood(side, packet, segment),
                WINDOW_TALK => return self.take_talk(side, packet, segment),
                _ => {}
            }
            if window != WINDOW_STREAM {
                return self.take_stranger(side, &packet);
            }
        }
        let stamp = inner.payload().and_then(|at| data.get(at..)).and_then(Stamp::read);
        match stamp {
            Some(stamp) if stamp.mark == REQUEST || stamp.mark == REPLY => {
                self.take_stream(side, packet, stamp, now);
            }
            Some(stamp) if stamp.mark == FRAGMENT_MARK => self.take_fragment(side, packet, stamp),
            _ => self.take_stranger(side, &packet),
        }
    }

    /// A fragment that is not its datagram's first.
    fn take_fragment(&mut self, side: usize, packet: Q::Packet, stamp: Stamp) {
        self.tally.requests_received_packets += 1;
        self.tally.received_bytes += packet.frame_len() as u64;
        self.tally.duplicated_packets += u64::from(!self.seen[1].first(stamp.number));
        if stamp.number & self.settings.check_mask == 0 {
            self.inspect(side, &packet, stamp.flow, false, true);
        }
        self.keep(packet);
    }

    fn take_flood(&mut self, side: usize, packet: Q::Packet, segment: Segment) {
        self.tally.floods_received_packets += 1;
        self.tally.received_bytes += packet.frame_len() as u64;
        if segment.sequence & self.settings.check_mask == 0 {
            self.inspect(side, &packet, flood_flow(segment.sequence), false, false);
        }
        self.keep(packet);
    }

    /// Neighbour resolution, or something that does not belong here.
    #[cold]
    #[inline(never)]
    fn take_stranger(&mut self, side: usize, packet: &Q::Packet) {
        match neighbor::hear(&self.world, side, packet.data()) {
            None => self.tally.stranger_packets += 1,
            Some(heard) => {
                if let Some(mac) = heard.balancer {
                    self.set_balancer(side, mac);
                }
                if let Some(answer) = heard.answer {
                    self.send_frame(side, &answer);
                }
            }
        }
    }

    // --- conversations -------------------------------------------------------------------------------------------

    fn take_talk(&mut self, side: usize, packet: Q::Packet, segment: Segment) {
        self.tally.talk_received_packets += 1;
        self.tally.received_bytes += packet.frame_len() as u64;
        let replies = self.settings.replies;
        let from_client = !replies || packet.data().first_chunk() != Some(&World::gateway_mac().0);
        let number = talk::number(segment, from_client);
        if number & self.settings.check_mask == 0 {
            self.inspect(side, &packet, number % self.world.scene.flows, !from_client, false);
        }
        let next = match (from_client, replies) {
            (true, true) => talk::at_backend(segment),
            (true, false) => talk::unheard(segment),
            (false, _) => talk::at_client(segment),
        };
        let as_backend = from_client && replies;
        match next {
            Next::Nothing => self.keep(packet),
            Next::Complete => {
                self.tally.conversations_completed += u64::from(self.talk.end(segment));
                self.keep(packet);
            }
            Next::One(out) => self.say(side, packet, number, out, as_backend),
            Next::Two(first, second) => {
                if let Some(mut copy) = self.queues[side].allocate()
                    && copy.set_len(packet.data().len())
                {
                    copy.data_mut().copy_from_slice(packet.data());
                    self.say(side, copy, number, first, as_backend);
                } else {
                    self.tally.no_buffer_packets += 1;
                }
                self.say(side, packet, number, second, as_backend);
            }
        }
    }

    /// Sends a segment of conversation `number`, in the buffer of the one that it answers.
    fn say(
        &mut self,
        side: usize,
        mut packet: Q::Packet,
        number: u32,
        (segment, data): talk::Out,
        as_backend: bool,
    ) {
        if as_backend {
            let Some(mac) = self.balancer[side] else { return };
            let layout = check::layout(self.world.scene.family, Transport::Tcp);
            let len = tcp::LEN + if data { talk::DATA } else { 0 };
            // The lengths of what is answered are kept: a SYN by a bare segment, a request by an answer as long.
            frame::turn(packet.data_mut(), layout, mac);
            frame::rewrite_segment(packet.data_mut(), layout, segment, len);
            self.push(side, packet, Kind::Talk);
        } else {
            let template = &self.segments[usize::from(data)];
            if packet.set_len(template.len()) {
                let flow = number % self.world.scene.flows;
                template.write_segment(packet.data_mut(), flow, segment);
                self.push(0, packet, Kind::Talk);
            }
        }
    }

    // --- sending -------------------------------------------------------------------------------------------------

    #[inline(always)]
    fn push(&mut self, side: usize, packet: Q::Packet, kind: Kind) {
        let out = &mut self.out[side];
        if kind != Kind::Request {
            out.kinds[kind as usize] |= 1 << out.packets.len();
        }
        out.packets.push(packet);
        if out.packets.is_full() {
            self.transmit(side);
        }
    }

    fn transmit(&mut self, side: usize) {
        let out = &mut self.out[side];
        let total = out.packets.len();
        let kinds = std::mem::take(&mut out.kinds);
        let sent = self.queues[side].transmit(&mut out.packets);
        let mask = ((1u64 << sent) - 1) as u32;
        let tally = &mut self.tally;
        let [mut requests_sent, mut requests_refused] = [sent as u64, (total - sent) as u64];
        let counters = [
            (&mut tally.replies_sent_packets, &mut tally.replies_refused_packets),
            (&mut tally.floods_sent_packets, &mut tally.floods_refused_packets),
            (&mut tally.talk_sent_packets, &mut tally.talk_refused_packets),
        ];
        for (kind, (taken, refused)) in kinds.into_iter().zip(counters) {
            let [yes, no] = [(kind & mask).count_ones(), (kind & !mask).count_ones()].map(u64::from);
            *taken += yes;
            *refused += no;
            requests_sent -= yes;
            requests_refused -= no;
        }
        tally.requests_sent_packets += requests_sent;
        tally.requests_refused_packets += requests_refused;
    }

    /// Sends what is due of everything that is offered.
    #[inline(always)]
    fn generate(&mut self, offer: &mut Offer) {
        let now = self.clock.cycles();
        let per_request = if self.fragments.is_some() { 2 } else { 1 };
        let mut room = self.window_room(now);
        for (rate, kind) in [
            (&mut offer.streams, Kind::Request),
            (&mut offer.floods, Kind::Flood),
            (&mut offer.talks, Kind::Talk),
        ] {
            let count = match rate {
                Rate::None => continue,
                Rate::Max if kind == Kind::Talk => {
                    self.settings.talks.saturating_sub(self.talk.open).min(BURST as u64)
                }
                // Whole bursts: what is left of the window waits until it makes one.
                Rate::Max if room < BURST as u64 => 0,
                Rate::Max => BURST as u64 / per_request,
                Rate::Paced(pace) => {
                    let most = if self.settings.patient { room / per_request } else { u64::MAX };
                    let due = pace.due(now).min(BURST as u64).min(most);
                    pace.issue(due);
                    due
                }
            };
            room = room.saturating_sub(count * per_request);
            match kind {
                Kind::Flood => self.floods(count),
                Kind::Talk => self.talks(count, now),
                _ => self.streams(count, now),
            }
        }
    }

    /// Packets that the window has room for.
    #[inline(always)]
    fn window_room(&mut self, now: u64) -> u64 {
        let on_their_way = self.tally.sent() - self.tally.received().min(self.tally.sent());
        let on_their_way = on_their_way.saturating_sub(self.written_off);
        let room = self.settings.window.saturating_sub(on_their_way);
        if room < BURST as u64 {
            self.write_off(now, on_their_way);
        } else {
            self.stuck_since = None;
        }
        room
    }

    /// A full window that nothing leaves is full of lost packets.
    #[inline(never)]
    fn write_off(&mut self, now: u64, on_their_way: u64) {
        let received = self.tally.received();
        match self.stuck_since {
            Some((since, before)) if before == received => {
                if now - since > self.clock.hertz() / 1000 * STUCK_MILLIS {
                    self.written_off += on_their_way;
                    self.stuck_since = None;
                }
            }
            _ => self.stuck_since = Some((now, received)),
        }
    }

    /// A buffer to fill.
    #[inline(always)]
    fn buffer(&mut self) -> Option<Q::Packet> {
        if self.spare.is_empty() {
            self.queues[0].allocate_burst(&mut self.spare);
        }
        let packet = self.spare.pop();
        self.tally.no_buffer_packets += u64::from(packet.is_none());
        packet
    }

    #[inline(always)]
    fn streams(&mut self, count: u64, now: u64) {
        if self.fragments.is_some() {
            for _ in 0..count {
                self.fragmented(now);
            }
            return;
        }
        for _ in 0..count {
            let Some(mut packet) = self.buffer() else { return };
            let template = &self.templates[self.turn_of];
            if self.templates.len() > 1 {
                self.turn_of = if self.turn_of + 1 == self.templates.len() { 0 } else { self.turn_of + 1 };
            }
            if !packet.set_len(template.len()) {
                continue;
            }
            let stamp = Stamp { mark: REQUEST, flow: self.sequence.next(), number: self.number, cycles: now };
            for seen in &mut self.seen {
                seen.sending(self.number);
            }
            self.number = self.number.wrapping_add(1);
            template.write(packet.data_mut(), stamp);
            self.push(0, packet, Kind::Request);
        }
    }

    /// A datagram in two fragments.
    fn fragmented(&mut self, now: u64) {
        let stamp = Stamp { mark: REQUEST, flow: self.sequence.next(), number: self.number, cycles: now };
        for seen in &mut self.seen {
            seen.sending(self.number);
        }
        self.number = self.number.wrapping_add(1);
        let frames = self.fragments.as_mut().map(|fragments| fragments.write(stamp));
        for frame in frames.into_iter().flatten() {
            let Some(mut packet) = self.buffer() else { return };
            if packet.set_len(frame.len()) {
                packet.data_mut().copy_from_slice(&frame);
                self.push(0, packet, Kind::Request);
            }
        }
    }

    fn floods(&mut self, count: u64) {
        for _ in 0..count {
            let Some(mut packet) = self.buffer() else { return };
            if packet.set_len(self.flood.len()) {
                let sequence = self.flood_number;
                self.flood_number = sequence.wrapping_add(1);
                let segment = Segment { flags: tcp::flag::SYN, sequence, acknowledgment: 0 };
                self.flood.write_segment(packet.data_mut(), flood_flow(sequence), segment);
                self.push(0, packet, Kind::Flood);
            }
        }
    }

    fn talks(&mut self, count: u64, now: u64) {
        if now >= self.talk_due {
            let millisecond = self.clock.hertz() / 1000;
            self.talk_due = now + 10 * millisecond;
            self.tally.conversations_expired += self.talk.expire(now, PATIENCE_MILLIS * millisecond);
        }
        for _ in 0..count {
            let Some(packet) = self.buffer() else { return };
            let number = self.talk.begin();
            self.tally.conversations_started += 1;
            self.say(0, packet, number, (talk::first(number), false), false);
        }
    }

    /// Gives up all conversations that are not complete.
    pub(crate) fn end_talks(&mut self) {
        self.tally.conversations_expired += self.talk.expire(u64::MAX - 1, 0) + self.talk.expire(u64::MAX, 0);
    }
}

/// From one cycle to several seconds of them, three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 36, 3).expect("these bounds are valid")
}

/// The client of a flood's SYN: random, and none of the numbered flows' (their numbers have the high bit clear).
#[inline(always)]
fn flood_flow(sequence: u32) -> u32 {
    // splitmix32's finaliser: one to one, so that no client repeats before all have been.
    let mut z = sequence.wrapping_mul(0x9e37_79b9);
    z = (z ^ z >> 16).wrapping_mul(0x21f0_aaad);
    z = (z ^ z >> 15).wrapping_mul(0x735a_2d97);
    (z ^ z >> 15) | 0x8000_0000
}
