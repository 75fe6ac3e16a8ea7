//! Tasks by key, each with what it was started for: what is unchanged goes on when the set changes.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use tokio::task::AbortHandle;

/// A changing set of tasks. Dropping it ends them.
pub struct TaskSet<K, S> {
    running: HashMap<K, (S, AbortHandle)>,
}

impl<K: Clone + Eq + Hash, S: PartialEq> TaskSet<K, S> {
    /// None runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self { running: HashMap::new() }
    }

    /// Makes the running tasks those of `wanted`, within a tokio runtime. What is unchanged goes on undisturbed;
    /// what is new or changed is started by `start`.
    pub fn set<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        wanted: impl IntoIterator<Item = (K, S)>,
        start: impl Fn(&K, &S) -> F,
    ) {
        let mut kept = HashSet::new();
        for (key, spec) in wanted {
            kept.insert(key.clone());
            if self.running.get(&key).is_some_and(|(running, _)| *running == spec) {
                continue;
            }
            let task = tokio::spawn(start(&key, &spec)).abort_handle();
            if let Some((_, previous)) = self.running.insert(key, (spec, task)) {
                previous.abort();
            }
        }
        self.running.retain(|key, (_, task)| {
            let keep = kept.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
    }
}

impl<K, S> Drop for TaskSet<K, S> {
    fn drop(&mut self) {
        for (_, task) in self.running.values() {
            task.abort();
        }
    }
}
