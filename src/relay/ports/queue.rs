//! Who waits for a port, and whose turn it is.
//!
//! Those who wait for the same ports and stand in each other's way are served in the order of their arrival. Two
//! stand in each other's way if the addresses that they expect overlap: the sessions of one address, all of a network
//! where the network is expected, and everybody where anybody is. So nobody is passed over, and nobody waits for
//! others than those.
//!
//! Who expects several networks waits under each of them, with one number.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::Notify;

use super::expected::Expected;
use super::networks::NetworkMap;

/// A set of slots that leases are made from, by its index.
pub(super) type ViewId = usize;

/// A place in a queue.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    number: u64,
    view: ViewId,
    expected: Expected,
    bell: Arc<Notify>,
}

impl Ticket {
    /// Waits until it is worth trying. Cancel safe.
    pub(super) async fn called(&self) {
        self.bell.notified().await;
    }
}

/// All who wait. Numbers are given out in ascending order.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: NetworkMap<BTreeMap<ViewId, Queue>>,
    /// How many wait for the same.
    counts: BTreeMap<(ViewId, Expected), usize>,
    last_number: u64,
}

type Queue = BTreeMap<u64, Arc<Notify>>;

impl Queues {
    /// Joins the queue of this view.
    pub(super) fn join(&mut self, view: ViewId, expected: &Expected) -> Ticket {
        self.last_number += 1;
        let ticket = Ticket { number: self.last_number, view, expected: expected.clone(), bell: Arc::default() };
        for net in expected.networks() {
            let queue = self.queues.get_or_default(*net).entry(view).or_default();
            queue.insert(ticket.number, Arc::clone(&ticket.bell));
        }
        *self.counts.entry((view, expected.clone())).or_default() += 1;
        // Room is made for as many as wait: the first must look again.
        self.call_next(&ticket);
        ticket
    }

    /// Leaves the queue, served or not.
    pub(super) fn leave(&mut self, ticket: &Ticket) {
        for net in ticket.expected.networks() {
            self.leave_one(*net, ticket);
        }
        let key = (ticket.view, ticket.expected.clone());
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
        self.call_next(ticket);
    }

    fn leave_one(&mut self, net: IpNet, ticket: &Ticket) {
        let Some(views) = self.queues.get_mut(net) else { return };
        let Some(queue) = views.get_mut(&ticket.view) else { return };
        queue.remove(&ticket.number);
        if queue.is_empty() {
            views.remove(&ticket.view);
        }
        if views.is_empty() {
            self.queues.remove(net);
        }
    }

    /// Whether nobody who stands in the way came earlier; `None` stands for one who has not queued.
    pub(super) fn is_first(&self, view: ViewId, expected: &Expected, ticket: Option<&Ticket>) -> bool {
        let first = self.heads(view, expected).map(|(number, _)| *number).min();
        first == ticket.map(|ticket| ticket.number)
    }

    /// How many wait for a port of this view for just these addresses.
    pub(super) fn len(&self, view: ViewId, expected: &Expected) -> usize {
        self.counts.get(&(view, expected.clone())).copied().unwrap_or_default()
    }

    /// A port is free for these addresses, or will be at another time.
    pub(super) fn call(&self, expected: &Expected) {
        let queues = self.overlapping(expected).flat_map(BTreeMap::values);
        queues.filter_map(BTreeMap::first_key_value).for_each(|(_, bell)| bell.notify_one());
    }

    /// Something has changed for everybody.
    pub(super) fn call_everyone(&self) {
        let queues = self.queues.values().flat_map(BTreeMap::values);
        queues.filter_map(BTreeMap::first_key_value).for_each(|(_, bell)| bell.notify_one());
    }

    fn call_next(&self, ticket: &Ticket) {
        self.heads(ticket.view, &ticket.expected).for_each(|(_, bell)| bell.notify_one());
    }

    /// The first of each queue that stands in the way of these addresses, among them the first of all.
    fn heads(&self, view: ViewId, expected: &Expected) -> impl Iterator<Item = (&u64, &Arc<Notify>)> {
        self.overlapping(expected).filter_map(move |views| views.get(&view)?.first_key_value())
    }

    fn overlapping(&self, expected: &Expected) -> impl Iterator<Item = &BTreeMap<ViewId, Queue>> {
        expected.networks().iter().flat_map(|net| self.queues.overlapping(*net))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataPeer;

    const VIEW: ViewId = 0;

    fn expected(rule: DataPeer, n: u8) -> Expected {
        Expected::new(&rule, [127, 0, 0, n].into())
    }

    /// Whether the ticket has been called since it was last asked.
    fn called(ticket: &Ticket) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(ticket.called()).poll(&mut context).is_ready()
    }

    fn is_first(queues: &Queues, ticket: &Ticket) -> bool {
        queues.is_first(ticket.view, &ticket.expected, Some(ticket))
    }

    #[test]
    fn a_queue_is_first_in_first_out() {
        let one = expected(DataPeer::Exact, 1);
        let mut queues = Queues::default();
        assert!(queues.is_first(VIEW, &one, None));
        let (a, b) = (queues.join(VIEW, &one), queues.join(VIEW, &one));
        assert!(is_first(&queues, &a) && !is_first(&queues, &b) && !queues.is_first(VIEW, &one, None));
        assert!(queues.is_first(VIEW + 1, &one, None), "another view has its own queue");
        assert!(called(&a) && !called(&b), "to see that two are waiting");
        queues.call(&one);
        assert!(called(&a) && !called(&b));
        queues.leave(&a);
        assert!(is_first(&queues, &b) && called(&b));
        queues.leave(&b);
        assert!(queues.is_empty() && queues.is_first(VIEW, &one, None));
    }

    #[test]
    fn those_who_expect_other_addresses_do_not_wait_for_each_other() {
        let mut queues = Queues::default();
        let one = queues.join(VIEW, &expected(DataPeer::Exact, 1));
        let two = queues.join(VIEW, &expected(DataPeer::Exact, 2));
        assert!(is_first(&queues, &one) && is_first(&queues, &two));
        assert!(queues.is_first(VIEW, &expected(DataPeer::Exact, 3), None));
        called(&one);
        called(&two);
        queues.call(&expected(DataPeer::Exact, 2));
        assert!(!called(&one) && called(&two));
    }

    #[test]
    fn those_whose_addresses_overlap_stand_in_one_queue() {
        for wide in [DataPeer::Subnet, DataPeer::Any] {
            let mut queues = Queues::default();
            let one = queues.join(VIEW, &expected(DataPeer::Exact, 1));
            let all = queues.join(VIEW, &expected(wide.clone(), 9));
            let two = queues.join(VIEW, &expected(DataPeer::Exact, 2));
            assert!(is_first(&queues, &one) && !is_first(&queues, &all) && !is_first(&queues, &two));
            assert!(!queues.is_first(VIEW, &expected(DataPeer::Exact, 3), None), "a newcomer would pass over `all`");
            called(&all);
            queues.leave(&one);
            assert!(is_first(&queues, &all) && called(&all) && !is_first(&queues, &two));
            called(&two);
            queues.leave(&all);
            assert!(is_first(&queues, &two) && called(&two));
        }
    }
}
