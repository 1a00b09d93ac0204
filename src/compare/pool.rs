// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bounded number of threads for a list of jobs.
//!
//! Invariant: results are in the order of the jobs, whoever did them.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does the jobs 0 to `count` - 1 with `threads` threads.
pub(super) fn each<T: Send>(
    count: usize,
    threads: usize,
    job: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = job(index);
                    done.lock().push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::each;

    #[test]
    fn results_are_in_order_and_whole() {
        for threads in [0, 1, 3, 50] {
            let results = each(20, threads, |index| index * 2);
            assert_eq!(results, (0..20).map(|index| index * 2).collect::<Vec<_>>());
        }
        assert!(each(0, 4, |index| index).is_empty());
    }
}
