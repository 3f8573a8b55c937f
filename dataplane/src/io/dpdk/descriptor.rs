//! What tells of packets on software ports that are sockets underneath.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// The packet sockets of this process (packet(7)) that are bound to the interface with this number, as descriptors of our
/// own. `net_af_packet` opens one for each queue and shows none of them.
pub(super) fn packet_sockets(interface: u32) -> Vec<OwnedFd> {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    // Gathered first: the listing has a descriptor itself, closed by then.
    let open: Vec<RawFd> =
        listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let bound = open.into_iter().filter(|&fd| interface_of(fd) == Some(interface));
    bound.filter_map(duplicate).collect()
}

/// The interface that a packet socket is bound to; `None` for any other descriptor.
fn interface_of(fd: RawFd) -> Option<u32> {
    let mut address = MaybeUninit::<libc::sockaddr_ll>::zeroed();
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: at most `len` bytes are written into `address`, which is all zeros otherwise, a value of its integers; for a
    // number that is no open socket, the call fails.
    let (status, address) = unsafe {
        let status = libc::getsockname(fd, address.as_mut_ptr().cast(), &raw mut len);
        (status, address.assume_init())
    };
    let is_packet = status == 0 && i32::from(address.sll_family) == libc::AF_PACKET;
    is_packet.then(|| u32::try_from(address.sll_ifindex).ok())?
}

fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: open a moment ago, and its owner, the port's driver, closes it only with the port, which the caller holds.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().ok()
}
