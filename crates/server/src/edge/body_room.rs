//! How much of the memory may be bodies that are still arriving: of all callers together, and of each address.
//!
//! Whose signature a body bears is known only when all of it is there. Until then anybody may claim a key whose id he has
//! seen; the share of an address is what keeps him from taking the room of everybody else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The room.
#[derive(Debug)]
pub(super) struct BodyRoom {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only those who have some.
    by_peer: HashMap<IpAddr, usize>,
}

/// What one body takes of it, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    room: &'a BodyRoom,
    peer: IpAddr,
    bytes: usize,
}

impl BodyRoom {
    /// Room for so many bytes, of which the bodies of one address may take so many.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, taken: Mutex::default() }
    }

    /// The share of a body from this address: nothing yet.
    pub(super) fn share(&self, peer: IpAddr) -> Share<'_> {
        Share { room: self, peer: holder(peer), bytes: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    /// Takes more, if there is more.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        let mut taken = self.room.taken();
        let of_peer = taken.by_peer.get(&self.peer).copied().unwrap_or_default();
        if bytes > self.room.most - taken.all || of_peer + bytes > self.room.most_of_one {
            return false;
        }
        taken.all += bytes;
        taken.by_peer.insert(self.peer, of_peer + bytes);
        self.bytes += bytes;
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.room.taken();
        taken.all -= self.bytes;
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer -= self.bytes;
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

/// Whom an address belongs to: who has one of IPv6 has the other 2^64 of its network, too.
fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let room = BodyRoom::new(100, 60);
        {
            let mut share = room.share(peer("10.0.0.1"));
            assert!(share.grow(40) && share.grow(20) && share.grow(0));
            assert!(!share.grow(1), "an address has its own bound");
            assert!(!room.share(peer("10.0.0.1")).grow(1), "over all its bodies");
            let mut other = room.share(peer("10.0.0.2"));
            assert!(other.grow(40));
            assert!(!other.grow(1), "all together have theirs");
        }
        let taken = room.taken();
        assert_eq!((taken.all, taken.by_peer.len()), (0, 0));
    }

    #[test]
    fn a_network_is_one_holder() {
        let room = BodyRoom::new(100, 10);
        let mut one = room.share(peer("2001:db8::1"));
        assert!(one.grow(10));
        assert!(!room.share(peer("2001:db8::ffff:1")).grow(1));
        assert!(room.share(peer("2001:db8:0:1::1")).grow(1));
        let mut mapped = room.share(peer("::ffff:10.0.0.1"));
        assert!(mapped.grow(10));
        assert!(!room.share(peer("10.0.0.1")).grow(1));
    }
}
