//! One check, from the first packet to the outcome.

use super::exchange::{Exchange, Opening, Way};
use super::stack::{Stack, TcpStream, address};
use super::{http, tls};
use crate::wire::protocol;
use ctl::config::{Health, HealthType};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Most bytes of a TCP answer that are looked at, and of an HTTP body.
pub(super) const ANSWER: usize = 65_536;
/// What an echo request carries, as `ping` does; the answer must bring it back.
const ECHO: &[u8; 16] = b"sluice is asking";

/// Whom to ask, and how.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) health: Arc<Health>,
    pub(super) tls: Option<tls::Client>,
    pub(super) local: IpAddr,
    /// Where the packets are addressed to: the backend, or the VIP on it.
    pub(super) remote: IpAddr,
    pub(super) port: u16,
    pub(super) way: Way,
    /// Largest packet in bytes, without what a tunnel puts around it.
    pub(super) mtu: u16,
}

/// Asks.
///
/// # Errors
/// Why the backend does not pass, in words.
pub(super) async fn ask(exchange: &Arc<Exchange>, question: Question) -> Result<(), String> {
    let timeout = question.health.timeout;
    match tokio::time::timeout(timeout.as_duration(), answered(exchange, &question)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("timeout after {timeout}")),
    }
}

async fn answered(exchange: &Arc<Exchange>, question: &Question) -> Result<(), String> {
    let Question { local, remote, port, way, .. } = *question;
    let mtu = usize::from(question.mtu);
    let open = |protocol, port| {
        exchange
            .open(protocol, local, (remote, port), way)
            .ok_or_else(|| "all ports for checks are in use".to_owned())
    };
    match question.health.kind {
        HealthType::Tcp => tcp(open(protocol::TCP, port)?, mtu, &question.health).await,
        HealthType::Http => {
            http::ask(TcpStream::connect(open(protocol::TCP, port)?, mtu).await?, question).await
        }
        HealthType::Https => {
            let client = question.tls.as_ref().ok_or("TLS is not set up")?;
            let stream = TcpStream::connect(open(protocol::TCP, port)?, mtu).await?;
            http::ask(client.connect(stream, question).await?, question).await
        }
        HealthType::Udp => udp(open(protocol::UDP, port)?, mtu, &question.health).await,
        HealthType::Icmp => {
            let protocol = if remote.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
            icmp(open(protocol, 0)?, mtu).await
        }
    }
}

/// A connection is enough, or what comes over it.
async fn tcp(opening: Opening, mtu: usize, health: &Health) -> Result<(), String> {
    let mut stream = TcpStream::connect(opening, mtu).await?;
    if let Some(payload) = &health.payload {
        stream.write_all(payload.as_bytes()).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
    }
    let Some(expect) = &health.expect else { return Ok(()) };
    let mut answer = Vec::new();
    loop {
        let before = answer.len();
        let mut chunk = [0; 2048];
        let read = stream.read(&mut chunk).await.map_err(|error| error.to_string())?;
        answer.extend_from_slice(&chunk[..read]);
        if contains_since(&answer, before, expect.as_bytes()) {
            return Ok(());
        }
        if read == 0 {
            return Err(format!("closed after {} bytes without what is expected", answer.len()));
        }
        if answer.len() >= ANSWER {
            return Err(format!("the first {ANSWER} bytes lack what is expected"));
        }
    }
}

/// Whether `wanted` is in `bytes`, of which those before `seen` were searched already.
pub(super) fn contains_since(bytes: &[u8], seen: usize, wanted: &[u8]) -> bool {
    let from = seen.saturating_sub(wanted.len().saturating_sub(1));
    bytes[from..].windows(wanted.len().max(1)).any(|window| window == wanted)
}

async fn udp(opening: Opening, mtu: usize, health: &Health) -> Result<(), String> {
    let flow = opening.flow;
    let buffer = |packets: usize, bytes: usize| {
        udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; packets], vec![0; bytes])
    };
    let mut stack = Stack::new(opening, udp::Socket::new(buffer(8, 8192), buffer(1, 2048)), mtu);
    let socket: &mut udp::Socket<'_> = stack.socket();
    let payload = health.payload.as_ref().map_or(&[][..], |payload| payload.as_bytes());
    socket
        .bind((address(flow.local.0), flow.local.1))
        .map_err(|error| format!("no socket for the check: {error}"))?;
    socket
        .send_slice(payload, (address(flow.remote.0), flow.remote.1))
        .map_err(|error| format!("the question cannot be sent: {error}"))?;
    let mut answered = 0;
    std::future::poll_fn(|context| {
        stack.drive(context);
        if let Some(words) = stack.refused() {
            return Poll::Ready(Err(words.to_owned()));
        }
        while let Ok((answer, _)) = stack.socket::<udp::Socket<'_>>().recv() {
            let wanted = health.expect.as_ref().map(ctl::config::Payload::as_bytes);
            if wanted.is_none_or(|wanted| contains_since(answer, 0, wanted)) {
                return Poll::Ready(Ok(()));
            }
            answered += 1;
            if answered == 8 {
                return Poll::Ready(Err("8 answers without what is expected".to_owned()));
            }
        }
        Poll::Pending
    })
    .await
}

async fn icmp(opening: Opening, mtu: usize) -> Result<(), String> {
    let flow = opening.flow;
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
    let mut stack = Stack::new(opening, icmp::Socket::new(buffer(), buffer()), mtu);
    let socket: &mut icmp::Socket<'_> = stack.socket();
    socket
        .bind(icmp::Endpoint::Ident(flow.local.1))
        .map_err(|error| format!("no socket for the check: {error}"))?;
    let message = echo_request(flow.local, flow.remote.0);
    socket
        .send_slice(&message, address(flow.remote.0))
        .map_err(|error| format!("the question cannot be sent: {error}"))?;
    std::future::poll_fn(|context| {
        stack.drive(context);
        if let Some(words) = stack.refused() {
            return Poll::Ready(Err(words.to_owned()));
        }
        while let Ok((answer, _)) = stack.socket::<icmp::Socket<'_>>().recv() {
            if answer.get(crate::wire::icmp::LEN..) == Some(ECHO) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    })
    .await
}

/// RFC 792, RFC 4443 section 4.1.
fn echo_request(local: (IpAddr, u16), remote: IpAddr) -> Vec<u8> {
    let (ident, sums) = (local.1, ChecksumCapabilities::default());
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (local.0, remote) {
        let message = Icmpv6Repr::EchoRequest { ident, seq_no: 1, data: ECHO };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&source, &destination, &mut Icmpv6Packet::new_unchecked(&mut bytes), &sums);
        return bytes;
    }
    let message = Icmpv4Repr::EchoRequest { ident, seq_no: 1, data: ECHO };
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &sums);
    bytes
}

#[cfg(test)]
mod tests;
