//! Which backend gets the next request: groups share the traffic by weight, the backends of a group
//! take turns. Knows nothing about connections; whoever picks a backend holds it until done.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    backend::{Backend, Pass},
    counters::Counters,
};

/// Names the group of backends that serve one revision.
pub type Group = u64;

/// Groups, their weights and their backends.
#[derive(Debug, Default)]
pub(super) struct Table {
    groups: BTreeMap<Group, Members>,
}

#[derive(Debug, Default)]
struct Members {
    weight: u32,
    /// Takes requests that no group with weight can take.
    stands_by: bool,
    /// Smooth weighted round robin: grows by the weight at each pick, loses the total when taken.
    credit: i64,
    next: usize,
    backends: Vec<Arc<Backend>>,
    counters: Arc<Counters>,
}

impl Table {
    pub(super) fn attach(
        &mut self,
        group: Group,
        make: impl FnOnce(Arc<Counters>) -> Backend,
    ) -> Arc<Backend> {
        let members = self.groups.entry(group).or_default();
        let backend = Arc::new(make(Arc::clone(&members.counters)));
        members.backends.push(Arc::clone(&backend));
        backend
    }

    /// No request picked from now on reaches the backend.
    pub(super) fn detach(&mut self, backend: &Backend) {
        for members in self.groups.values_mut() {
            members
                .backends
                .retain(|member| member.id() != backend.id());
        }
    }

    /// Sets every group's weight at once. A group that is named with no weight stands by; one that is
    /// not named gets nothing.
    pub(super) fn set_shares(&mut self, shares: &[(Group, u32)]) {
        for members in self.groups.values_mut() {
            members.weight = 0;
            members.credit = 0;
            members.stands_by = false;
        }
        for (group, weight) in shares {
            let members = self.groups.entry(*group).or_default();
            members.weight = *weight;
            members.stands_by = *weight == 0;
        }
    }

    pub(super) fn shares(&self) -> Vec<(Group, u32)> {
        self.groups
            .iter()
            .filter(|(_, members)| members.weight > 0)
            .map(|(group, members)| (*group, members.weight))
            .collect()
    }

    pub(super) fn counters(&mut self, group: Group) -> Arc<Counters> {
        Arc::clone(&self.groups.entry(group).or_default().counters)
    }

    /// Forgets a group that has neither weight nor backends.
    pub(super) fn forget(&mut self, group: Group) {
        self.groups.retain(|number, members| {
            *number != group || members.weight > 0 || !members.backends.is_empty()
        });
    }

    /// The next backend by weight and turn, none of `tried`. A group without a usable backend gives
    /// its turn to the others, so that a dying canary costs no request; when none with weight is
    /// usable, one that stands by is.
    pub(super) fn pick(&mut self, tried: &[u64]) -> Option<Pass> {
        let group = self.next_group(tried).or_else(|| {
            let mut standing_by = self.groups.iter().filter(|(_, members)| members.stands_by);
            standing_by
                .find(|(_, members)| members.is_usable(tried))
                .map(|(group, _)| *group)
        })?;
        self.groups.get_mut(&group)?.next_backend(tried)
    }

    fn next_group(&mut self, tried: &[u64]) -> Option<Group> {
        let takes_part = |members: &Members| members.weight > 0 && members.is_usable(tried);
        let mut total = 0;
        let mut best: Option<(Group, i64)> = None;
        for (group, members) in &mut self.groups {
            if !takes_part(members) {
                continue;
            }
            total += i64::from(members.weight);
            members.credit += i64::from(members.weight);
            if best.is_none_or(|(_, credit)| members.credit > credit) {
                best = Some((*group, members.credit));
            }
        }
        let (group, _) = best?;
        self.groups.get_mut(&group)?.credit -= total;
        Some(group)
    }
}

impl Members {
    fn is_usable(&self, tried: &[u64]) -> bool {
        self.backends
            .iter()
            .any(|backend| !tried.contains(&backend.id()))
    }

    fn next_backend(&mut self, tried: &[u64]) -> Option<Pass> {
        let count = self.backends.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            let backend = self.backends.get(index)?;
            if !tried.contains(&backend.id()) {
                self.next = (index + 1) % count;
                return Some(backend.enter());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn table(groups: &[(Group, u32, usize)]) -> Table {
        let mut table = Table::default();
        for (group, _, count) in groups {
            for _ in 0..*count {
                let address = SocketAddr::from(([127, 0, 0, 1], 1));
                table.attach(*group, |shared| Backend::new(*group, address, shared, 1));
            }
        }
        let shares: Vec<_> = groups
            .iter()
            .map(|(group, weight, _)| (*group, *weight))
            .collect();
        table.set_shares(&shares);
        table
    }

    fn picks(table: &mut Table, count: usize) -> BTreeMap<Group, usize> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            if let Some(pass) = table.pick(&[]) {
                *seen.entry(pass.backend().group()).or_default() += 1;
            }
        }
        seen
    }

    #[test]
    fn traffic_is_shared_exactly_by_weight_and_not_by_the_number_of_backends() {
        let mut table = table(&[(1, 90, 1), (2, 10, 3)]);
        assert_eq!(
            picks(&mut table, 1000),
            BTreeMap::from([(1, 900), (2, 100)])
        );
    }

    #[test]
    fn a_group_without_backends_gives_its_turn_away() {
        let mut table = table(&[(1, 50, 1), (2, 50, 0)]);
        assert_eq!(picks(&mut table, 10), BTreeMap::from([(1, 10)]));
    }

    #[test]
    fn a_group_that_is_not_named_gets_nothing() {
        let mut table = table(&[(1, 1, 1), (2, 1, 1)]);
        table.set_shares(&[]);
        assert!(table.pick(&[]).is_none());
        table.set_shares(&[(2, 1)]);
        assert_eq!(picks(&mut table, 10), BTreeMap::from([(2, 10)]));
    }

    #[test]
    fn who_stands_by_helps_out_only_when_nobody_else_can() {
        let mut table = table(&[(1, 0, 1), (2, 5, 1)]);
        assert_eq!(picks(&mut table, 10), BTreeMap::from([(2, 10)]));
        let green = Arc::clone(table.pick(&[]).expect("it is there").backend());
        let other = table.pick(&[green.id()]).map(|pass| pass.backend().group());
        assert_eq!(other, Some(1), "a request that could not be sent");
        table.detach(&green);
        assert_eq!(picks(&mut table, 10), BTreeMap::from([(1, 10)]));
    }

    #[test]
    fn a_retry_goes_to_a_backend_that_was_not_tried() {
        let mut table = table(&[(1, 1, 2)]);
        let first = table
            .pick(&[])
            .map(|pass| pass.backend().id())
            .into_iter()
            .collect::<Vec<_>>();
        let second = table.pick(&first).map(|pass| pass.backend().id());
        assert!(second.is_some_and(|id| !first.contains(&id)));
        let both = [first, second.into_iter().collect()].concat();
        assert!(table.pick(&both).is_none());
    }

    #[test]
    fn a_detached_backend_is_never_picked() {
        let mut table = table(&[(1, 1, 2)]);
        let gone = Arc::clone(table.pick(&[]).expect("there are two").backend());
        table.detach(&gone);
        for _ in 0..4 {
            assert_ne!(
                table.pick(&[]).expect("one is left").backend().id(),
                gone.id()
            );
        }
    }
}
