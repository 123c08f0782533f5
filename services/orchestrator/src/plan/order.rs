//! The order of a graph's stages, and what stands before and after each. Knows nodes by number only.

use std::collections::VecDeque;

/// A set of stages, one bit each: a pipeline has at most 64.
pub(super) type Set = u64;

/// The numbers in a set, lowest first.
pub(super) fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..64).filter(move |index| set & (1 << index) != 0)
}

/// Why a graph has no order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tangle {
    /// Cycles, each as a path that ends where it began.
    pub cycles: Vec<Vec<usize>>,
    /// Nodes that are in no cycle, but need one: (node, the need that leads there).
    pub unreachable: Vec<(usize, usize)>,
}

/// Nodes so that each comes after all that it needs; of those that could come next, the lowest.
pub(super) fn topological(needs: &[Vec<usize>]) -> Result<Vec<usize>, Tangle> {
    let mut order = Vec::with_capacity(needs.len());
    let mut done: Set = 0;
    while order.len() < needs.len() {
        let next = (0..needs.len()).find(|&node| {
            done & (1 << node) == 0 && needs[node].iter().all(|&need| done & (1 << need) != 0)
        });
        match next {
            Some(node) => {
                done |= 1 << node;
                order.push(node);
            }
            None => return Err(tangle(needs, done)),
        }
    }
    Ok(order)
}

/// All nodes that each one needs, directly or not. `needs` must point backwards only.
pub(super) fn ancestors(needs: &[Vec<usize>]) -> Vec<Set> {
    let mut ancestors: Vec<Set> = Vec::with_capacity(needs.len());
    for direct in needs {
        let all = direct
            .iter()
            .fold(0, |all, &need| all | 1 << need | ancestors[need]);
        ancestors.push(all);
    }
    ancestors
}

fn tangle(needs: &[Vec<usize>], done: Set) -> Tangle {
    let stuck = |node: &usize| done & (1 << *node) == 0;
    let mut cycles: Vec<Vec<usize>> = Vec::new();
    let mut in_cycle: Set = 0;
    for start in (0..needs.len()).filter(stuck) {
        if in_cycle & (1 << start) != 0 {
            continue;
        }
        if let Some(cycle) = shortest_cycle(needs, start) {
            in_cycle |= cycle.iter().fold(0, |all, &node| all | 1 << node);
            cycles.push(cycle);
        }
    }
    let unreachable = (0..needs.len())
        .filter(|node| stuck(node) && in_cycle & (1 << node) == 0)
        .filter_map(|node| {
            let need = needs[node].iter().copied().find(|need| stuck(need))?;
            Some((node, need))
        })
        .collect();
    Tangle {
        cycles,
        unreachable,
    }
}

/// The shortest way from a node along its needs back to itself.
fn shortest_cycle(needs: &[Vec<usize>], start: usize) -> Option<Vec<usize>> {
    let mut came_from = vec![usize::MAX; needs.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for &need in &needs[node] {
            if need == start {
                let mut path = vec![start];
                let mut last = node;
                while last != start {
                    path.push(last);
                    last = came_from[last];
                }
                path.push(start);
                path.reverse();
                return Some(path);
            }
            if came_from[need] == usize::MAX {
                came_from[need] = node;
                queue.push_back(need);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_by_needs_and_then_by_number() {
        let needs = [vec![2], vec![], vec![1], vec![]];
        assert_eq!(topological(&needs), Ok(vec![1, 2, 0, 3]));
    }

    #[test]
    fn ancestors_are_direct_and_indirect() {
        let needs = [vec![], vec![0], vec![1], vec![0, 2]];
        assert_eq!(ancestors(&needs), [0, 0b1, 0b11, 0b111]);
        assert_eq!(members(0b101).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_cycle_is_told_as_a_path_and_what_hangs_on_it_as_unreachable() {
        // 1 -> 2 -> 3 -> 1; 4 needs itself; 5 needs 3; 0 is fine.
        let needs = [vec![], vec![2], vec![3], vec![1], vec![4], vec![0, 3]];
        let tangle = topological(&needs).unwrap_err();
        assert_eq!(tangle.cycles, [vec![1, 2, 3, 1], vec![4, 4]]);
        assert_eq!(tangle.unreachable, [(5, 3)]);
    }

    #[test]
    fn the_shortest_of_two_cycles_is_told() {
        let needs = [vec![1, 3], vec![2], vec![0], vec![0]];
        assert_eq!(topological(&needs).unwrap_err().cycles[0], [0, 3, 0]);
    }
}
