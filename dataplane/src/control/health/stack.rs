//! A TCP/IP stack for one check: smoltcp with a single socket, between an [`Opening`] and a future.
//!
//! Each check has its own, so that a packet touches the state of its check and nothing else, however many there are.

use super::exchange::{Incoming, Opening};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{AnySocket, tcp};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that wait to be read, and to be sent.
const RECEIVE_BUFFER: usize = 8192;
const SEND_BUFFER: usize = 4096;
/// Rounds of the stack in one go.
const ROUNDS: usize = 16;

/// The two queues of a stack; packets are IP packets.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) received: VecDeque<Vec<u8>>,
    pub(super) sent: Vec<Vec<u8>>,
    mtu: usize,
}

impl Queues {
    pub(super) fn new(mtu: usize) -> Self {
        Self { received: VecDeque::new(), sent: Vec::new(), mtu }
    }
}

pub(super) struct Received(Vec<u8>);
pub(super) struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// The stack, with one socket.
pub(super) struct Stack {
    opening: Opening,
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    begun: Instant,
    timer: Pin<Box<Sleep>>,
    /// What somebody on the way said, after which nothing will come.
    refused: Option<String>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("opening", &self.opening).finish_non_exhaustive()
    }
}

impl Stack {
    /// A stack whose packets have at most `mtu` bytes.
    pub(super) fn new<S: AnySocket<'static>>(opening: Opening, socket: S, mtu: usize) -> Self {
        let mut queues = Queues::new(mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        // Initial sequence numbers that nobody can guess.
        config.random_seed = RandomState::new().hash_one(opening.flow);
        let mut interface = Interface::new(config, &mut queues, StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The whole world is next door: who takes the packets there is for the balancer to know.
            let _ = addresses.push(IpCidr::new(address(opening.flow.local.0), 0));
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let begun = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(begun));
        Self { opening, interface, queues, sockets, handle, begun, timer, refused: None }
    }

    pub(super) fn socket<S: AnySocket<'static>>(&mut self) -> &mut S {
        self.sockets.get_mut(self.handle)
    }

    /// What somebody on the way said against the check.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Takes in what came, sends what is due, and sees to it that the task wakes when there is more to do.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) {
        for _ in 0..ROUNDS {
            while let Poll::Ready(Some(incoming)) = self.opening.poll_receive(context) {
                match incoming {
                    Incoming::Packet(packet) => self.queues.received.push_back(packet),
                    Incoming::Refused(words) => self.refused = Some(words),
                }
            }
            let now = self.now();
            self.interface.poll(now, &mut self.queues, &mut self.sockets);
            self.flush();
            let Some(due) = self.interface.poll_at(now, &self.sockets) else { return };
            let due =
                self.begun + std::time::Duration::from_micros(u64::try_from(due.total_micros()).unwrap_or(0));
            self.timer.as_mut().reset(due);
            if self.timer.as_mut().poll(context).is_pending() {
                return;
            }
        }
        // There is more to do than fits in one go: others first.
        context.waker().wake_by_ref();
    }

    fn flush(&mut self) {
        for packet in self.queues.sent.drain(..) {
            self.opening.send(packet);
        }
    }
}

/// The same address as smoltcp writes it.
pub(super) fn address(address: std::net::IpAddr) -> IpAddress {
    address.into()
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct TcpStream(Stack);

impl TcpStream {
    /// Connects to the remote end of `opening`.
    ///
    /// # Errors
    /// Why there is no connection, in words; never ends by itself if nobody answers.
    pub(super) async fn connect(opening: Opening, mtu: usize) -> Result<Self, String> {
        let flow = opening.flow;
        let buffer = |len: usize| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut stack = Stack::new(opening, socket, mtu);
        let (remote, local) = (address(flow.remote.0), address(flow.local.0));
        let (interface, sockets) = (&mut stack.interface, &mut stack.sockets);
        sockets
            .get_mut::<tcp::Socket<'_>>(stack.handle)
            .connect(interface.context(), (remote, flow.remote.1), (local, flow.local.1))
            .map_err(|error| format!("no connection can be made: {error}"))?;
        let mut stream = Self(stack);
        std::future::poll_fn(|context| {
            stream.0.drive(context);
            if let Some(words) = stream.0.refused() {
                return Poll::Ready(Err(words.to_owned()));
            }
            match stream.socket().state() {
                tcp::State::Closed => Poll::Ready(Err("connection refused".to_owned())),
                tcp::State::SynSent | tcp::State::SynReceived => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        })
        .await?;
        Ok(stream)
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.0.socket()
    }
}

/// A reset rather than a farewell: the backend keeps no memory of a check (RFC 9293 section 3.10.5).
impl Drop for TcpStream {
    fn drop(&mut self) {
        self.socket().abort();
        let now = self.0.now();
        let stack = &mut self.0;
        stack.interface.poll(now, &mut stack.queues, &mut stack.sockets);
        stack.flush();
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.0.drive(context);
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match this.socket().recv_slice(buffer.initialize_unfilled()) {
            Ok(0) => Poll::Pending,
            Ok(read) => {
                buffer.advance(read);
                // The window is open again: say so.
                this.0.drive(context);
                Poll::Ready(Ok(()))
            }
            Err(tcp::RecvError::Finished) => Poll::Ready(Ok(())),
            Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(reset())),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.0.drive(context);
        match this.socket().send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => Poll::Pending,
            Ok(written) => {
                this.0.drive(context);
                Poll::Ready(Ok(written))
            }
            Err(tcp::SendError::InvalidState) => Poll::Ready(Err(reset())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.drive(context);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().close();
        ready!(self.as_mut().poll_flush(context))?;
        Poll::Ready(Ok(()))
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset")
}
