//! What an agent knows of tasks: those that run or whose results are kept, and, of those that are
//! gone, which lease was the newest. A call that was under way for long must not begin them again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::entry::Entry;

// A lease lasts 15 s, and a call of an older one is that late only when its sender stood still.
const GONE_MOST: usize = 10_000;

/// The table. One lock is around all of it.
#[derive(Debug)]
pub(super) struct Table<R> {
    entries: HashMap<String, Arc<Entry<R>>>,
    // Epochs that must not begin their task any more, nor older ones.
    spent: HashMap<String, i64>,
    // In the order in which they came.
    order: VecDeque<String>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            spent: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<R> Table<R> {
    /// A task that runs or whose result is kept.
    pub(super) fn get(&self, task_id: &str) -> Option<&Arc<Entry<R>>> {
        self.entries.get(task_id)
    }

    /// All of them.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry<R>>> {
        self.entries.values()
    }

    /// How many run.
    pub(super) fn running_count(&self) -> usize {
        self.entries().filter(|entry| !entry.is_finished()).count()
    }

    /// Another one; it takes the place of an earlier attempt.
    pub(super) fn insert(&mut self, entry: Arc<Entry<R>>) {
        self.entries.insert(entry.task_id.clone(), entry);
    }

    /// Forgets everything of a task but its lease.
    pub(super) fn forget(&mut self, task_id: &str) {
        if let Some(entry) = self.entries.remove(task_id) {
            self.spend(task_id, entry.epoch());
        }
    }

    /// Whoever holds this lease was told that the task is not here: it stays so.
    pub(super) fn spend(&mut self, task_id: &str, lease_epoch: i64) {
        // A task without a lease has no other holder.
        if lease_epoch <= 0 {
            return;
        }
        if let Some(spent) = self.spent.get_mut(task_id) {
            *spent = lease_epoch.max(*spent);
            return;
        }
        self.spent.insert(task_id.to_owned(), lease_epoch);
        self.order.push_back(task_id.to_owned());
        if self.order.len() > GONE_MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.spent.remove(&oldest);
        }
    }

    /// The newest lease of a task that is gone; zero: nothing is known of it.
    pub(super) fn spent(&self, task_id: &str) -> i64 {
        self.spent.get(task_id).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lease_of_a_task_is_remembered_and_the_oldest_tasks_are_forgotten() {
        let mut table = Table::<()>::default();
        table.spend("a", 2);
        table.spend("a", 1);
        table.spend("own", 0);
        assert_eq!((table.spent("a"), table.spent("own")), (2, 0));
        for number in 0..GONE_MOST {
            table.spend(&number.to_string(), 1);
        }
        assert_eq!((table.spent("a"), table.spent("0")), (0, 1));
        assert_eq!(table.spent.len(), GONE_MOST);
    }
}
