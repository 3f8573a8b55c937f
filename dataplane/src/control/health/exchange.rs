//! Between checks and ports: IP packets out, and each answer to the check that waits for it.
//!
//! Checks run as tasks of the control thread; the [`Balancer`](crate::control::balancer::Balancer) takes what they send
//! to the workers and brings what workers received. Everything is bounded: the checks by their number, what waits by
//! [`OUTBOX`] and [`INBOX`].

use crate::flow::FIRST_PROBE_PORT;
use crate::route::NextHop;
use crate::wire::ethernet::{self, Ethernet, ethertype};
use crate::wire::{icmp, ipv4, ipv6, protocol};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc};

/// Packets that wait for the balancer to send them; what is beyond is lost, as on any wire.
const OUTBOX: usize = 4096;
/// Packets that wait for one check.
const INBOX: usize = 32;

/// What tells the packets of one check from those of others. For echo the local port is the identifier, and the remote
/// one is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::control) struct Flow {
    pub protocol: u8,
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
}

/// How packets of a check leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) struct Way {
    pub hop: NextHop,
    /// The backend's slot, whose tunnel they go through if it has one.
    pub slot: u32,
}

/// An IP packet on its way out.
#[derive(Debug)]
pub(in crate::control) struct Outgoing {
    pub way: Way,
    /// Of its flow: what tells it from others outside of a tunnel.
    pub hash: u64,
    pub packet: Vec<u8>,
}

/// What came for a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Packet(Vec<u8>),
    /// Somebody on the way says, in words, that the packets do not arrive.
    Refused(String),
}

#[derive(Debug, Default)]
struct Inner {
    outbox: Vec<Outgoing>,
    inboxes: HashMap<Flow, mpsc::Sender<Incoming>>,
    /// Tried first by the next check: each port rests for as long as possible.
    next_port: u16,
}

/// Where checks and the balancer meet.
#[derive(Debug, Default)]
pub(in crate::control) struct Exchange {
    inner: Mutex<Inner>,
    sent: Notify,
}

impl Exchange {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A check's end of a new flow from `local`; `None` if all ports are taken.
    pub(super) fn open(
        self: &Arc<Self>,
        protocol: u8,
        local: IpAddr,
        remote: (IpAddr, u16),
        way: Way,
    ) -> Option<Opening> {
        let mut inner = self.inner();
        let count = u16::MAX - FIRST_PROBE_PORT + 1;
        for _ in 0..count {
            let port = FIRST_PROBE_PORT + inner.next_port % count;
            inner.next_port = (inner.next_port + 1) % count;
            let flow = Flow { protocol, local: (local, port), remote };
            if let Entry::Vacant(entry) = inner.inboxes.entry(flow) {
                let (sender, inbox) = mpsc::channel(INBOX);
                entry.insert(sender);
                return Some(Opening { exchange: Arc::clone(self), flow, way, inbox });
            }
        }
        None
    }

    /// What checks sent since the last time.
    pub(in crate::control) fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.inner().outbox)
    }

    /// Waits until a check sends something.
    pub(in crate::control) async fn sent(&self) {
        self.sent.notified().await;
    }

    /// Whether any check waits for an answer.
    pub(in crate::control) fn is_busy(&self) -> bool {
        !self.inner().inboxes.is_empty()
    }

    /// Gives a received frame to the check that it is for. If there is none, says of which IP protocol its flow is.
    pub(in crate::control) fn deliver(&self, frame: &[u8]) -> Option<u8> {
        let (flow, incoming) = read(frame)?;
        if let Some(inbox) = self.inner().inboxes.get(&flow) {
            // A full inbox loses packets, as any queue does.
            let _ = inbox.try_send(incoming);
            return None;
        }
        Some(flow.protocol)
    }
}

/// One check's end of its flow; dropping it gives the port back.
#[derive(Debug)]
pub(super) struct Opening {
    exchange: Arc<Exchange>,
    pub(super) flow: Flow,
    way: Way,
    inbox: mpsc::Receiver<Incoming>,
}

impl Opening {
    pub(super) fn send(&self, packet: Vec<u8>) {
        let mut inner = self.exchange.inner();
        if inner.outbox.len() < OUTBOX {
            let mut hasher = DefaultHasher::new();
            self.flow.hash(&mut hasher);
            inner.outbox.push(Outgoing { way: self.way, hash: hasher.finish(), packet });
            drop(inner);
            self.exchange.sent.notify_one();
        }
    }

    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.inbox.poll_recv(context)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.exchange.inner().inboxes.remove(&self.flow);
    }
}

/// Which flow a frame belongs to, and what it holds for it.
fn read(frame: &[u8]) -> Option<(Flow, Incoming)> {
    let kind = Ethernet::parse(frame).ok()?.ethertype();
    let bytes = frame.get(ethernet::LEN..)?;
    let packet = match kind {
        ethertype::IPV4 => Inside::of_v4(bytes)?,
        ethertype::IPV6 => Inside::of_v6(bytes)?,
        _ => return None,
    };
    let (source, destination) = (packet.source, packet.destination);
    let number = |at: usize| Some(u16::from_be_bytes(*packet.body.get(at..)?.first_chunk()?));
    let whole = || Incoming::Packet(bytes[..packet.total].to_vec());
    match packet.protocol {
        protocol::TCP | protocol::UDP => {
            let flow = Flow {
                protocol: packet.protocol,
                local: (destination, number(2)?),
                remote: (source, number(0)?),
            };
            Some((flow, whole()))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let (kind, code) = (*packet.body.first()?, *packet.body.get(1)?);
            let v6 = packet.protocol == protocol::ICMPV6;
            if kind == if v6 { icmp::v6::ECHO_REPLY } else { icmp::v4::ECHO_REPLY } {
                let local = (destination, number(icmp::IDENTIFIER)?);
                return Some((Flow { protocol: packet.protocol, local, remote: (source, 0) }, whole()));
            }
            let words = if v6 { complaint_v6(kind, code) } else { complaint_v4(kind, code) }?;
            let flow = quoted(packet.body.get(icmp::LEN..)?)?;
            Some((flow, Incoming::Refused(format!("{words}, says {source}"))))
        }
        _ => None,
    }
}

/// What stands in an IP packet.
struct Inside<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    body: &'a [u8],
    /// Length of the packet, without what pads the frame.
    total: usize,
}

impl<'a> Inside<'a> {
    fn of_v4(bytes: &'a [u8]) -> Option<Self> {
        let ip = ipv4::Ipv4::parse(bytes, bytes.len()).ok()?;
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: ip.protocol(),
            body: bytes.get(ip.header_len()..ip.total_len())?,
            total: ip.total_len(),
        })
    }

    fn of_v6(bytes: &'a [u8]) -> Option<Self> {
        let ip = ipv6::Ipv6::parse(bytes, bytes.len()).ok()?;
        let upper = ipv6::upper_layer(bytes.get(..ip.total_len())?, ip.next_header()).ok()?;
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: upper.protocol,
            body: bytes.get(upper.offset..ip.total_len())?,
            total: ip.total_len(),
        })
    }
}

/// The flow of a packet of ours that an ICMP message quotes the beginning of (RFC 792, RFC 4443 section 3).
fn quoted(bytes: &[u8]) -> Option<Flow> {
    let (source, destination, protocol, offset) = match bytes.first()? >> 4 {
        4 => {
            let header: &[u8; ipv4::LEN] = bytes.first_chunk()?;
            let address = |at: usize| -> Option<[u8; 4]> { header.get(at..)?.first_chunk().copied() };
            let (source, destination) = (address(ipv4::at::SOURCE)?, address(ipv4::at::DESTINATION)?);
            let offset = usize::from(header[0] & 0xf) * 4;
            (IpAddr::from(source), IpAddr::from(destination), header[ipv4::at::PROTOCOL], offset)
        }
        6 => {
            let header: &[u8; ipv6::LEN] = bytes.first_chunk()?;
            let address = |at: usize| -> Option<[u8; 16]> { header.get(at..)?.first_chunk().copied() };
            let (source, destination) = (address(ipv6::at::SOURCE)?, address(ipv6::at::DESTINATION)?);
            (IpAddr::from(source), IpAddr::from(destination), header[ipv6::at::NEXT_HEADER], ipv6::LEN)
        }
        _ => return None,
    };
    let number = |at: usize| Some(u16::from_be_bytes(*bytes.get(offset + at..)?.first_chunk()?));
    let (local, remote) = match protocol {
        protocol::TCP | protocol::UDP => (number(0)?, number(2)?),
        protocol::ICMP | protocol::ICMPV6 => (number(icmp::IDENTIFIER)?, 0),
        _ => return None,
    };
    Some(Flow { protocol, local: (source, local), remote: (destination, remote) })
}

/// What an ICMP error says (RFC 792, RFC 1812 section 5.2.7.1), unless it is about the size of packets.
fn complaint_v4(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (icmp::v4::DESTINATION_UNREACHABLE, 0 | 6 | 11) => "network unreachable",
        (icmp::v4::DESTINATION_UNREACHABLE, 1 | 7 | 12) => "host unreachable",
        (icmp::v4::DESTINATION_UNREACHABLE, 2) => "protocol unreachable",
        (icmp::v4::DESTINATION_UNREACHABLE, 3) => "port unreachable",
        (icmp::v4::DESTINATION_UNREACHABLE, 9 | 10 | 13) => "prohibited",
        (icmp::v4::TIME_EXCEEDED, 0) => "hop limit exceeded",
        _ => return None,
    })
}

/// The same for ICMPv6 (RFC 4443 section 3).
fn complaint_v6(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (1, 0) => "no route",
        (1, 1 | 5 | 6) => "prohibited",
        (1, 2 | 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (3, 0) => "hop limit exceeded",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
