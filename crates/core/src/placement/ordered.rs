//! Ordered sets that answer "the least that is enough of both" in logarithmic time.
//!
//! A set is a treap: a search tree by key, a heap by a priority that is a hash of the member, so that its shape does not depend on
//! the order of insertions and nobody can make it deep. All sets of a [`Forest`] share one array; a member is in at most one of them.
//!
//! The key is two amounts. In order of the first one, a subtree either lies beyond what is needed of it as a whole, or on
//! the one path that divides enough from too little; each node knows the most that its subtree has of the second. So a search for
//! a member with enough of *both* never enters a subtree in vain, off that path: "nothing fits" costs as little as "this fits".

/// No node: the root of an empty set.
pub(super) const NONE: u32 = u32::MAX;

/// Two amounts, compared in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amounts {
    pub(super) first: u32,
    pub(super) second: u32,
}

impl Amounts {
    /// Whether there is as much as that of both.
    pub(super) fn cover(self, least: Self) -> bool {
        self.first >= least.first && self.second >= least.second
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    key: Amounts,
    /// The most that any member of the subtree has of the second amount.
    most: u32,
    left: u32,
    right: u32,
}

const FREE: Node = Node { key: Amounts { first: 0, second: 0 }, most: 0, left: NONE, right: NONE };

/// Sets of numbered members.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    nodes: Vec<Node>,
}

impl Forest {
    /// Makes room for members below this number.
    pub(super) fn reserve(&mut self, members: usize) {
        if self.nodes.len() < members {
            self.nodes.resize(members, FREE);
        }
    }

    /// What a member of some set has.
    pub(super) fn amounts(&self, member: u32) -> Amounts {
        self.nodes[member as usize].key
    }

    /// A set of members in order, none of which is in any set; answers its root. Takes time linear in their number.
    pub(super) fn build(&mut self, sorted: &[(Amounts, u32)]) -> u32 {
        // What is right of everything so far, the root first.
        let mut spine: Vec<u32> = Vec::new();
        for &(key, member) in sorted {
            self.nodes[member as usize] = Node { key, most: key.second, ..FREE };
            while let Some(top) = spine.pop_if(|top| priority(*top) < priority(member)) {
                self.sum(top);
                self.nodes[member as usize].left = top;
            }
            if let Some(&above) = spine.last() {
                self.nodes[above as usize].right = member;
            }
            spine.push(member);
        }
        spine.iter().rev().for_each(|&member| self.sum(member));
        spine.first().copied().unwrap_or(NONE)
    }

    /// Puts a member, which is in no set, into one; answers its new root.
    pub(super) fn insert(&mut self, root: u32, member: u32, key: Amounts) -> u32 {
        self.nodes[member as usize] = Node { key, most: key.second, ..FREE };
        self.inserted(root, member)
    }

    fn inserted(&mut self, root: u32, member: u32) -> u32 {
        if root == NONE {
            return member;
        }
        if priority(member) > priority(root) {
            let (left, right) = self.split(root, self.order(member));
            let node = &mut self.nodes[member as usize];
            (node.left, node.right) = (left, right);
            self.sum(member);
            return member;
        }
        match self.order(member) < self.order(root) {
            true => {
                let left = self.inserted(self.nodes[root as usize].left, member);
                self.nodes[root as usize].left = left;
            }
            false => {
                let right = self.inserted(self.nodes[root as usize].right, member);
                self.nodes[root as usize].right = right;
            }
        }
        self.sum(root);
        root
    }

    /// Takes a member out of its set; answers the new root.
    pub(super) fn remove(&mut self, root: u32, member: u32) -> u32 {
        if root == member {
            let Node { left, right, .. } = self.nodes[member as usize];
            return self.merge(left, right);
        }
        if root == NONE {
            return NONE;
        }
        match self.order(member) < self.order(root) {
            true => {
                let left = self.remove(self.nodes[root as usize].left, member);
                self.nodes[root as usize].left = left;
            }
            false => {
                let right = self.remove(self.nodes[root as usize].right, member);
                self.nodes[root as usize].right = right;
            }
        }
        self.sum(root);
        root
    }

    /// The first member in order that has enough of both and is accepted.
    pub(super) fn first(&self, root: u32, least: Amounts, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let node = self.nodes.get(root as usize).filter(|node| node.most >= least.second)?;
        if node.key.first >= least.first {
            if let Some(found) = self.first(node.left, least, accept) {
                return Some(found);
            }
            if node.key.second >= least.second && accept(root) {
                return Some(root);
            }
        }
        self.first(node.right, least, accept)
    }

    /// Those before a key, and the others.
    fn split(&mut self, root: u32, at: (Amounts, u32)) -> (u32, u32) {
        if root == NONE {
            return (NONE, NONE);
        }
        let halves = match self.order(root) < at {
            true => {
                let (left, right) = self.split(self.nodes[root as usize].right, at);
                self.nodes[root as usize].right = left;
                (root, right)
            }
            false => {
                let (left, right) = self.split(self.nodes[root as usize].left, at);
                self.nodes[root as usize].left = right;
                (left, root)
            }
        };
        self.sum(root);
        halves
    }

    /// One set of two, all of whose first is before all of the second.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        match (left, right) {
            (NONE, only) | (only, NONE) => only,
            _ if priority(left) > priority(right) => {
                let merged = self.merge(self.nodes[left as usize].right, right);
                self.nodes[left as usize].right = merged;
                self.sum(left);
                left
            }
            _ => {
                let merged = self.merge(left, self.nodes[right as usize].left);
                self.nodes[right as usize].left = merged;
                self.sum(right);
                right
            }
        }
    }

    fn order(&self, member: u32) -> (Amounts, u32) {
        (self.nodes[member as usize].key, member)
    }

    fn sum(&mut self, root: u32) {
        let Node { key, left, right, .. } = self.nodes[root as usize];
        let most = |child: u32| self.nodes.get(child as usize).map_or(0, |node| node.most);
        self.nodes[root as usize].most = key.second.max(most(left)).max(most(right));
    }
}

/// The finaliser of SplitMix64: neighbouring members get unrelated priorities.
fn priority(member: u32) -> u64 {
    let mixed = u64::from(member).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::entropy::Entropy;

    fn all(forest: &Forest, root: u32, least: Amounts) -> Vec<u32> {
        let mut found = Vec::new();
        forest.first(root, least, &mut |member| {
            found.push(member);
            false
        });
        found
    }

    #[test]
    fn it_is_an_ordered_map_with_two_lower_bounds() {
        let mut chance = Entropy::from_seed([1; 32]);
        let mut forest = Forest::default();
        forest.reserve(200);
        let (mut root, mut expected) = (NONE, BTreeMap::new());
        for _ in 0..5_000 {
            let member = chance.below(200) as u32;
            if expected.remove(&member).is_some() {
                root = forest.remove(root, member);
            } else {
                let key = Amounts { first: chance.below(30) as u32, second: chance.below(30) as u32 };
                root = forest.insert(root, member, key);
                expected.insert(member, key);
            }
            let least = Amounts { first: chance.below(32) as u32, second: chance.below(32) as u32 };
            let mut fitting: Vec<(Amounts, u32)> =
                expected.iter().filter(|(_, key)| key.cover(least)).map(|(member, key)| (*key, *member)).collect();
            fitting.sort_unstable();
            let fitting: Vec<u32> = fitting.into_iter().map(|(_, member)| member).collect();
            assert_eq!(all(&forest, root, least), fitting);
            assert_eq!(forest.first(root, least, &mut |_| true), fitting.first().copied());
            if chance.below(50) == 0 {
                let mut sorted: Vec<(Amounts, u32)> = expected.iter().map(|(member, key)| (*key, *member)).collect();
                sorted.sort_unstable();
                let built = forest.build(&sorted);
                assert_eq!(built, root, "it is the same, however it was made");
                assert_eq!(all(&forest, built, least), fitting);
            }
        }
    }

    /// Half have all of the first amount, half all of the second: nothing fits, and the search sees that at once.
    #[test]
    fn what_fits_nowhere_is_known_without_looking_everywhere() {
        let mut forest = Forest::default();
        let members = 1 << 14;
        forest.reserve(members as usize);
        let mut root = NONE;
        for member in 0..members {
            let key = if member % 2 == 0 { (100, 1 + member % 7) } else { (1 + member % 7, 100) };
            root = forest.insert(root, member, Amounts { first: key.0, second: key.1 });
        }
        fn depth(forest: &Forest, root: u32) -> usize {
            let node = forest.nodes.get(root as usize);
            node.map_or(0, |node| 1 + depth(forest, node.left).max(depth(forest, node.right)))
        }
        assert!(depth(&forest, root) < 60);
        let mut asked = 0;
        let found = forest.first(root, Amounts { first: 50, second: 50 }, &mut |_| {
            asked += 1;
            true
        });
        assert_eq!((found, asked), (None, 0));
    }
}
