//! Sets of limbs of a chain.

use std::fmt;

/// A set of limb ids, each the index of a prime in the chain of a [`Ring`](crate::Ring).
///
/// Rows of a polynomial are stored in ascending order of limb id, so a set is all that is needed to say
/// where a limb lies: at row [`rank`](LimbSet::rank).
///
/// ```
/// use arras_rns::LimbSet;
///
/// let (q, p) = (LimbSet::range(0..3), LimbSet::single(5));
/// let all = q.union(p);
/// assert_eq!(all.iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
/// // A polynomial with these limbs has the residues modulo prime 5 in its last row.
/// assert_eq!(all.rank(5), 3);
/// assert_eq!(all.difference(q), p);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct LimbSet(u128);

impl LimbSet {
    /// The largest number of limbs a chain can have.
    pub const CAPACITY: usize = 128;
    /// The set without elements.
    pub const EMPTY: LimbSet = LimbSet(0);

    /// Limbs `range.start .. range.end`, cut off at [`CAPACITY`](Self::CAPACITY).
    pub const fn range(range: std::ops::Range<usize>) -> Self {
        Self(below(range.end) & !below(range.start))
    }

    /// The set of one limb; empty if `limb` is not below [`CAPACITY`](Self::CAPACITY).
    pub const fn single(limb: usize) -> Self {
        if limb < Self::CAPACITY { Self(1 << limb) } else { Self::EMPTY }
    }

    /// Number of limbs in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set has no limb.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `limb` is in the set.
    pub const fn contains(self, limb: usize) -> bool {
        limb < Self::CAPACITY && self.0 >> limb & 1 == 1
    }

    /// Whether every limb of `self` is in `other`.
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Limbs in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Limbs of `self` that are not in `other`.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Limbs in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// How many limbs of the set are smaller than `limb`: the row of `limb` if it is in the set.
    pub const fn rank(self, limb: usize) -> usize {
        (self.0 & below(limb)).count_ones() as usize
    }

    /// The largest limb, if there is one.
    pub const fn last(self) -> Option<usize> {
        if self.0 == 0 { None } else { Some(127 - self.0.leading_zeros() as usize) }
    }

    /// The limbs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> + Clone {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let limb = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(limb)
        })
    }
}

const fn below(limb: usize) -> u128 {
    if limb >= 128 { u128::MAX } else { (1 << limb) - 1 }
}

impl fmt::Debug for LimbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<usize> for LimbSet {
    fn from_iter<I: IntoIterator<Item = usize>>(limbs: I) -> Self {
        limbs.into_iter().fold(Self::EMPTY, |set, limb| set.union(Self::single(limb)))
    }
}

#[cfg(test)]
mod tests {
    use super::LimbSet;

    #[test]
    fn ranges_ranks_and_order() {
        let set: LimbSet = [5, 0, 127, 3].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 5, 127]);
        assert_eq!(set.iter().map(|limb| set.rank(limb)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(set.last(), Some(127));
        assert_eq!(LimbSet::range(2..5).iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(LimbSet::range(0..128).len(), 128);
        assert!(LimbSet::single(128).is_empty());
        assert!(LimbSet::range(std::ops::Range { start: 3, end: 2 }).is_empty());
        assert_eq!(format!("{:?}", LimbSet::range(0..3)), "{0, 1, 2}");
    }
}
