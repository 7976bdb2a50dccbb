//! The rows and their targets.

/// What the time of a case is divided by.
#[derive(Clone, Copy, PartialEq)]
pub enum By {
    /// The unit.
    Unit,
    /// Another case of the same group, by the beginning of its name.
    Case(&'static str),
    /// Streaming the bytes that it has to move, at its proportion of reads, beyond the caches.
    Stream,
}

/// A case, what it is divided by, and how large the ratio may be.
#[derive(Clone, Copy)]
pub struct Row {
    /// The beginning of the name of the case; `/` follows.
    pub case: &'static str,
    /// Which shapes: a part of the rest of the name that it has to end with.
    pub shape: &'static str,
    pub by: By,
    pub target: f64,
}

const fn unit(case: &'static str, shape: &'static str, target: f64) -> Row {
    Row { case, shape, by: By::Unit, target }
}

/// Names of the sizes of primes: below 2^45.89, where AVX-512 needs no corrections, below 2^50, and up to 2^60.
pub const BITS: [u32; 3] = [45, 50, 60];

/// Bits of the primes of the parameter sets by degree; all are at least 128-bit secure.
pub const ROWS: &[Row] = &[
    unit("ntt/forward", "limbs=1/q=45", 0.58),
    unit("ntt/forward", "limbs=1/q=50", 0.80),
    unit("ntt/forward", "limbs=1/q=60", 1.3),
    Row { case: "ntt/inverse", shape: "limbs=1/q=45", by: By::Case("ntt/forward"), target: 1.1 },
    Row { case: "ntt/inverse", shape: "limbs=1/q=50", by: By::Case("ntt/forward"), target: 1.1 },
    Row { case: "ntt/inverse", shape: "limbs=1/q=60", by: By::Case("ntt/forward"), target: 1.1 },
    unit("ckks/rotate", "n=8192/q=50+2x46/p=50/dnum=3", 25.0),
    unit("ckks/rotate", "n=16384/q=7x43/p=3x43/dnum=3", 62.0),
    unit("ckks/rotate", "n=32768/q=15x43/p=5x43/dnum=3", 180.0),
    unit("ckks/rotate", "n=65536/q=25x45/p=9x45/dnum=3", 310.0),
    unit("ckks/rotate_hoisted/count=8", "n=8192/q=50+2x46/p=50/dnum=3", 14.0),
    relinearise("n=8192/q=50+2x46/p=50/dnum=3"),
    relinearise("n=16384/q=7x43/p=3x43/dnum=3"),
    relinearise("n=32768/q=15x43/p=5x43/dnum=3"),
    relinearise("n=65536/q=25x45/p=9x45/dnum=3"),
    unit("ckks/rescale_with", "n=8192/q=50+2x46/p=50/dnum=3", 6.0),
    unit("ckks/multiply", "n=8192/q=50+2x46/p=50/dnum=3", 3.0),
    unit("ckks/encode", "n=8192/q=50+2x46/p=50/dnum=3", 6.0),
    unit("ckks/decode", "n=8192/q=50+2x46/p=50/dnum=3", 9.0),
    unit("secret/encrypt/symmetric", "n=8192/q=50+2x46/p=50/dnum=3", 13.0),
    unit("secret/encrypt/public", "n=8192/q=50+2x46/p=50/dnum=3", 16.0),
    stream("ckks/add", "n=8192/q=50+2x46/p=50/dnum=3"),
    stream("ckks/multiply_plain", "n=8192/q=50+2x46/p=50/dnum=3"),
    stream("pointwise/add", "n=8192/limbs=1/q=50"),
    stream("pointwise/multiply", "n=8192/limbs=1/q=50"),
    stream("product/matrix/rows=5/columns=768", "n=2048/limbs=1/q=49/batch=768"),
];

/// The degree has to match too: these rows stand for every degree that has such a case.
const fn relinearise(shape: &'static str) -> Row {
    Row { case: "ckks/relinearise", shape, by: By::Case("ckks/rotate"), target: 1.1 }
}

const fn stream(case: &'static str, shape: &'static str) -> Row {
    Row { case, shape, by: By::Stream, target: 1.5 }
}

impl Row {
    /// Whether the row is about the case of this name.
    pub fn is_about(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.case).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| rest.ends_with(self.shape))
    }

    /// The name of the case that this one is divided by, if it is a case.
    pub fn divisor(&self, name: &str) -> Option<String> {
        let By::Case(other) = self.by else { return None };
        name.strip_prefix(self.case).map(|rest| format!("{other}{rest}"))
    }

    /// What it is divided by, in words.
    pub fn by_name(&self) -> String {
        match self.by {
            By::Unit => "unit".into(),
            By::Case(other) => other.into(),
            By::Stream => "streaming its bytes".into(),
        }
    }
}

/// Work shared by two threads beside two independent copies of half of it, each on a thread of its own.
pub struct Threads {
    pub id: &'static str,
    /// The beginning of the name of the case.
    pub case: &'static str,
    pub degree: usize,
    /// Polynomials that the two threads share.
    pub batch: usize,
    /// How much of the rate of the copies has to be left.
    pub target: f64,
}

pub const THREADS: [Threads; 2] = [
    Threads { id: "two threads/ntt/forward", case: "ntt/forward", degree: 1 << 14, batch: 64, target: 0.9 },
    Threads {
        id: "two threads/pointwise/add",
        case: "pointwise/add",
        degree: 1 << 14,
        batch: 64,
        target: 0.9,
    },
];
