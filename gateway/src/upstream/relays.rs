//! Connections for calls that move at the pace of clients: streams, and native calls whose replies are passed on unread.
//!
//! A reply that its client does not read stays in the windows of HTTP/2. A connection's window therefore holds those of
//! all calls that may be on it, and no more calls are put on it: a stalled reader takes up its own window, never what
//! another call needs. Connections are added as calls need them and closed when they are no longer needed.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::connect::Windows;
use super::slot::Slot;

/// Most calls on one connection. RFC 9113, section 6.5.2, advises servers to allow at least as many, and many allow no more: a further one
/// would wait for the end of another, which with streams may never come.
const CALLS: u32 = 100;
/// Window of one call, and so what a stalled reader costs. As large as HTTP/2's own default, which is enough for 60 MB/s at a round trip of
/// 1 ms.
pub(crate) const RELAYED_WINDOW: u32 = 64 << 10;
/// Windows of each connection here.
pub(super) const WINDOWS: Windows = Windows {
    stream: RELAYED_WINDOW,
    connection: RELAYED_WINDOW * CALLS,
};

/// The connections of one upstream. Their number is bounded by that of requests: each but the first few has [`CALLS`] of them at its peak.
pub(super) struct Relays {
    lanes: parking_lot::Mutex<Lanes>,
    /// Connections that are opened before any is shared, and kept when they are idle.
    kept: usize,
}

#[derive(Default)]
struct Lanes {
    all: Vec<Lane>,
    /// How many have ever been opened.
    opened: usize,
}

/// One connection, or a place for one.
struct Lane {
    slot: Arc<Mutex<Slot>>,
    turn: usize,
    calls: u32,
}

impl Relays {
    pub(super) fn new(kept: usize) -> Self {
        Self {
            lanes: parking_lot::Mutex::default(),
            kept: kept.max(1),
        }
    }

    /// A place on the connection with the fewest calls.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        let mut lanes = self.lanes.lock();
        let room = if lanes.all.len() < self.kept { 1 } else { CALLS };
        let index = lanes
            .all
            .iter()
            .enumerate()
            .filter(|(_, lane)| lane.calls < room)
            .min_by_key(|(_, lane)| lane.calls)
            .map(|(index, _)| index);
        let (slot, turn) = match index.and_then(|index| lanes.all.get_mut(index)) {
            Some(lane) => {
                lane.calls += 1;
                (lane.slot.clone(), lane.turn)
            }
            None => {
                let (slot, turn) = (Arc::<Mutex<Slot>>::default(), lanes.opened);
                lanes.opened = lanes.opened.wrapping_add(1);
                lanes.all.push(Lane {
                    slot: slot.clone(),
                    turn,
                    calls: 1,
                });
                (slot, turn)
            }
        };
        Ticket {
            relays: self.clone(),
            slot,
            turn,
        }
    }

    /// A call on that connection has ended.
    fn leave(&self, slot: &Arc<Mutex<Slot>>) {
        let mut lanes = self.lanes.lock();
        let Some(index) = lanes.all.iter().position(|lane| Arc::ptr_eq(&lane.slot, slot)) else {
            return;
        };
        let more_than_kept = lanes.all.len() > self.kept;
        if let Some(lane) = lanes.all.get_mut(index) {
            lane.calls = lane.calls.saturating_sub(1);
            if lane.calls == 0 && more_than_kept {
                lanes.all.swap_remove(index);
            }
        }
    }
}

/// A call's place on a connection, until this is dropped.
pub(crate) struct Ticket {
    relays: Arc<Relays>,
    slot: Arc<Mutex<Slot>>,
    turn: usize,
}

impl Ticket {
    pub(super) fn slot(&self) -> &Mutex<Slot> {
        &self.slot
    }

    /// Tells which of several addresses of the upstream the connection is for.
    pub(super) fn turn(&self) -> usize {
        self.turn
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.relays.leave(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(relays: &Relays) -> Vec<u32> {
        relays.lanes.lock().all.iter().map(|lane| lane.calls).collect()
    }

    #[test]
    fn a_connection_is_given_no_more_calls_than_its_window_holds() {
        let relays = Arc::new(Relays::new(2));
        let mut tickets: Vec<_> = (0..2 * CALLS).map(|_| relays.ticket()).collect();
        assert_eq!(counts(&relays), [CALLS, CALLS]);
        tickets.push(relays.ticket());
        assert_eq!(counts(&relays), [CALLS, CALLS, 1]);
        const { assert!(WINDOWS.connection >= WINDOWS.stream * CALLS) };
        drop(tickets);
        assert_eq!(counts(&relays).iter().sum::<u32>(), 0);
        assert!(counts(&relays).len() <= 2);
    }

    #[test]
    fn calls_are_spread_over_the_connections() {
        let relays = Arc::new(Relays::new(2));
        let (first, second) = (relays.ticket(), relays.ticket());
        assert_eq!(counts(&relays), [1, 1]);
        drop(first);
        let third = relays.ticket();
        assert_eq!(counts(&relays), [1, 1]);
        drop((second, third));
        assert_eq!(counts(&relays), [0, 0]);
    }
}
