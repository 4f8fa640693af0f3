//! A map from networks to values, in which all that overlap with one are found, whatever else it holds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks in CIDR notation: two of them are nested, or have no address in common. Keys have no host bits.
#[derive(Debug)]
pub(super) struct NetworkMap<V> {
    /// In the order of their first addresses, a wider network before those that it begins with.
    entries: BTreeMap<IpNet, V>,
    /// How many of the keys there are of each prefix length, so that what a network is nested in is looked up for the few
    /// lengths that there are.
    lengths: BTreeMap<u8, usize>,
}

impl<V> Default for NetworkMap<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), lengths: BTreeMap::new() }
    }
}

impl<V> NetworkMap<V> {
    /// Puts a value in the place of the one that is there.
    pub(super) fn insert(&mut self, net: IpNet, value: V) {
        if self.entries.insert(net, value).is_none() {
            *self.lengths.entry(net.prefix_len()).or_default() += 1;
        }
    }

    /// The value of a network, which has the default one if there was none.
    pub(super) fn get_or_default(&mut self, net: IpNet) -> &mut V
    where
        V: Default,
    {
        self.entries.entry(net).or_insert_with(|| {
            *self.lengths.entry(net.prefix_len()).or_default() += 1;
            V::default()
        })
    }

    pub(super) fn remove(&mut self, net: IpNet) {
        if self.entries.remove(&net).is_some()
            && let Some(count) = self.lengths.get_mut(&net.prefix_len())
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&net.prefix_len());
            }
        }
    }

    pub(super) fn get_mut(&mut self, net: IpNet) -> Option<&mut V> {
        self.entries.get_mut(&net)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    /// The values of all networks that have an address in common with this one. What is nested in it is a range of the
    /// map, and what it is nested in is looked up.
    pub(super) fn overlapping(&self, net: IpNet) -> impl Iterator<Item = &V> {
        let wider = self.lengths.keys().take_while(move |length| **length < net.prefix_len());
        let wider = wider.filter_map(move |length| self.entries.get(&widened(net, *length)));
        let nested = self.entries.range(net..=last_within(net));
        wider.chain(nested.map(|(_, value)| value))
    }
}

#[cfg(test)]
impl<V> NetworkMap<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lengths.is_empty()
    }
}

/// The network of this shorter prefix length around another.
fn widened(net: IpNet, length: u8) -> IpNet {
    IpNet::new(net.addr(), length).expect("shorter than a length of the same family").trunc()
}

/// The last in the order of the keys that is nested in this network: its last address.
fn last_within(net: IpNet) -> IpNet {
    IpNet::from(net.broadcast())
}

/// All addresses, of either family.
pub(super) const EVERYWHERE: [IpNet; 2] =
    [IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_nested_either_way_and_found_once() {
        let every: Vec<IpNet> = [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "0.0.0.0/32",
            "0.0.0.1/32",
            "198.51.0.0/16",
            "198.51.100.0/23",
            "198.51.100.0/24",
            "198.51.100.0/32",
            "198.51.100.7/32",
            "198.51.101.0/24",
            "255.255.255.255/32",
            "::/0",
            "::/128",
            "2001:db8::/32",
            "2001:db8::/64",
            "2001:db8::7/128",
            "2001:db8:0:1::/64",
        ]
        .iter()
        .map(|net| net.parse().unwrap())
        .collect();
        let mut map = NetworkMap::default();
        every.iter().for_each(|net| map.insert(*net, *net));
        for left_out in &every {
            map.remove(*left_out);
            for one in &every {
                let common = |other: &&IpNet| (other.contains(one) || one.contains(*other)) && *other != left_out;
                let wanted: Vec<&IpNet> = every.iter().filter(common).collect();
                let mut found: Vec<&IpNet> = map.overlapping(*one).collect();
                found.sort();
                assert_eq!(found, wanted, "what overlaps {one}, without {left_out}");
            }
            map.insert(*left_out, *left_out);
        }
        every.iter().for_each(|net| map.remove(*net));
        assert!(map.is_empty());
    }
}
