//! The one event list of the world: ordered by time, then by the order of insertion.

/// Events waiting for their time. Times are microseconds of virtual time.
#[derive(Debug)]
pub struct Schedule<T> {
    /// The next one last. A few dozen events wait at a time and most new ones are due soon, so a sorted list moves less than
    /// a heap.
    order: Vec<Due>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    now: u64,
}

/// When the item in a slot is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: u64,
    slot: u32,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { order: Vec::with_capacity(1024), slots: Vec::new(), free: Vec::new(), now: 0 }
    }
}

impl<T> Schedule<T> {
    /// Puts `item` on the list for `at`; a time in the past means now.
    pub fn push(&mut self, at: u64, item: T) {
        let at = at.max(self.now);
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(item);
            slot
        } else {
            self.slots.push(Some(item));
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events wait")
        };
        // Behind everything that is due by then, which is little: it moves up by one.
        let mut place = self.order.len();
        self.order.push(Due { at, slot });
        while place > 0 && self.order[place - 1].at <= at {
            self.order[place] = self.order[place - 1];
            place -= 1;
        }
        self.order[place] = Due { at, slot };
    }

    /// Takes the next item and moves the clock to its time.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let Due { at, slot } = self.order.pop()?;
        self.free.push(slot);
        self.now = at;
        self.slots[slot as usize].take()
    }

    /// When the next item is due.
    pub fn next_at(&self) -> Option<u64> {
        self.order.last().map(|due| due.at)
    }

    /// The virtual time in microseconds.
    pub fn now(&self) -> u64 {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_of_time_then_insertion() {
        let mut schedule = Schedule::default();
        schedule.push(5, 'c');
        schedule.push(1, 'a');
        schedule.push(5, 'd');
        schedule.push(2, 'b');
        let next = || schedule.pop().map(|item| (schedule.now(), item));
        let order: Vec<(u64, char)> = std::iter::from_fn(next).collect();
        assert_eq!(order, [(1, 'a'), (2, 'b'), (5, 'c'), (5, 'd')]);
    }

    #[test]
    fn the_past_means_now() {
        let mut schedule = Schedule::default();
        schedule.push(10, 'a');
        schedule.pop();
        schedule.push(3, 'b');
        assert_eq!((schedule.pop(), schedule.now()), (Some('b'), 10));
    }
}
