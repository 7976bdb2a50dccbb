//! Polynomials in residue form, and the views of them that operations take.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use smallvec::SmallVec;

use crate::{Backend, Error, LimbSet, Result, Ring, Storage};

/// What the words of a polynomial stand for. The domain is part of the type, so that a product in the wrong domain does
/// not compile.
///
/// See the example of [`Poly`].
pub trait Domain: Copy + Send + Sync + fmt::Debug + 'static {
    /// Whether this is the evaluation domain.
    const IS_EVALUATION: bool;
}

/// Coefficients in natural order.
///
/// See the example of [`Poly`].
#[derive(Clone, Copy, Debug)]
pub struct Coefficient;

/// Values at the odd powers of the 2N-th root of unity, in bit-reversed order.
///
/// See the example of [`Poly`].
#[derive(Clone, Copy, Debug)]
pub struct Evaluation;

impl Domain for Coefficient {
    const IS_EVALUATION: bool = false;
}

impl Domain for Evaluation {
    const IS_EVALUATION: bool = true;
}

/// Owned polynomials `[batch][limb][N]` in memory of backend `B`.
///
/// ```
/// use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly};
/// # use arras_cpu::Cpu;
/// # use arras_rns::Ring;
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// // Three constants, modulo both primes.
/// let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 3)?;
/// let mut words = vec![0; poly.extent().words()];
/// words.chunks_exact_mut(16).for_each(|row| row[0] = 5);
/// cpu.upload(&queue, &mut poly.view_mut(), &words)?;
/// // In place: the memory stays, its type changes.
/// let mut values: Poly<Cpu, Evaluation> = poly.retag();
/// cpu.ntt(&queue, &tables, &mut values.view_mut(), Input::InPlace)?;
/// cpu.download(&queue, &values.view(), &mut words)?;
/// assert_eq!(words, [5; 3 * 2 * 16]); // a constant has the same value everywhere
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub struct Poly<B: Backend, D: Domain> {
    buffer: B::Buffer,
    extent: Extent,
    domain: PhantomData<D>,
}

/// The shape of a stretch of memory that holds polynomials.
///
/// ```
/// use arras_rns::LimbSet;
/// use arras_rns::poly::Extent;
///
/// let limbs: LimbSet = [0, 1, 4].into_iter().collect();
/// let extent = Extent { batch: 3, limbs, degree: 16 };
/// assert_eq!(extent.words(), 3 * 3 * 16);
/// // Limb 4 has the third row of polynomial 1.
/// assert_eq!(extent.offset(1, 4), (3 + 2) * 16);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Number of polynomials.
    pub batch: usize,
    /// Limbs of each, stored in ascending order.
    pub limbs: LimbSet,
    /// Coefficients per limb.
    pub degree: usize,
}

impl Extent {
    /// Number of words.
    pub fn words(&self) -> usize {
        self.batch * self.limbs.len() * self.degree
    }

    /// First word of the row of `limb` in polynomial `index`.
    pub fn offset(&self, index: usize, limb: usize) -> usize {
        (index * self.limbs.len() + self.limbs.rank(limb)) * self.degree
    }
}

impl<B: Backend, D: Domain> Poly<B, D> {
    /// Memory for `batch` polynomials with the given limbs; the contents are unspecified until written.
    ///
    /// # Errors
    /// [`Error::MissingLimbs`] if `limbs` is empty or the ring lacks one, [`Error::Device`] if there is not enough memory,
    /// [`Error::Shape`] if its size does not even fit a word.
    pub fn allocate(
        backend: &B,
        queue: &B::Queue,
        ring: &Ring,
        limbs: LimbSet,
        batch: usize,
    ) -> Result<Self> {
        if limbs.is_empty() || !limbs.is_subset(ring.limbs()) {
            let missing = limbs.difference(ring.limbs());
            return Err(Error::MissingLimbs { operation: "allocate", missing, available: ring.limbs() });
        }
        let extent = Extent { batch, limbs, degree: ring.degree() };
        let row = limbs.len() * ring.degree();
        if batch.checked_mul(row).is_none() {
            return Err(Error::shape("allocate", "batch", batch, 0..usize::MAX / row));
        }
        Ok(Self { buffer: backend.allocate(queue, extent.words())?, extent, domain: PhantomData })
    }

    /// Memory that holds polynomials already, such as someone else's: residues `[batch][limb][N]`, canonical. Others give wrong results,
    /// or are refused.
    ///
    /// # Errors
    /// [`Error::MissingLimbs`] as [`allocate`](Self::allocate), [`Error::Shape`] if it is not a whole number of polynomials.
    pub fn from_buffer(ring: &Ring, limbs: LimbSet, buffer: B::Buffer) -> Result<Self> {
        if limbs.is_empty() || !limbs.is_subset(ring.limbs()) {
            let missing = limbs.difference(ring.limbs());
            return Err(Error::MissingLimbs { operation: "from_buffer", missing, available: ring.limbs() });
        }
        let row = limbs.len() * ring.degree();
        if !buffer.words().is_multiple_of(row) {
            let expected = format!("a multiple of {row}");
            return Err(Error::shape("from_buffer", "number of words", buffer.words(), expected));
        }
        let extent = Extent { batch: buffer.words() / row, limbs, degree: ring.degree() };
        Ok(Self { buffer, extent, domain: PhantomData })
    }

    /// The shape.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The limbs.
    pub fn limbs(&self) -> LimbSet {
        self.extent.limbs
    }

    /// The number of polynomials.
    pub fn batch(&self) -> usize {
        self.extent.batch
    }

    /// All of it, to read.
    pub fn view(&self) -> View<'_, B, D> {
        let segment =
            Segment { buffer: &self.buffer, extent: self.extent, first: 0, count: self.extent.batch };
        View {
            segments: SmallVec::from_elem(segment, 1),
            limbs: self.extent.limbs,
            degree: self.extent.degree,
            repeat: 1,
            domain: PhantomData,
        }
    }

    /// All of it, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, B, D> {
        let extent = self.extent;
        let segment = SegmentMut { buffer: &mut self.buffer, extent, first: 0, count: extent.batch };
        ViewMut {
            segments: SmallVec::from_iter([segment]),
            limbs: extent.limbs,
            degree: extent.degree,
            domain: PhantomData,
        }
    }

    /// The same memory, said to hold values of another domain: what an in-place transform leaves behind.
    pub fn retag<E: Domain>(self) -> Poly<B, E> {
        Poly { buffer: self.buffer, extent: self.extent, domain: PhantomData }
    }

    /// The memory itself, to wipe it.
    pub fn buffer_mut(&mut self) -> &mut B::Buffer {
        &mut self.buffer
    }
}

impl<B: Backend, D: Domain> fmt::Debug for Poly<B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if D::IS_EVALUATION { "evaluation" } else { "coefficient" };
        write!(f, "Poly<{domain}>[{}][{:?}][{}]", self.extent.batch, self.extent.limbs, self.extent.degree)
    }
}

/// Consecutive polynomials of one buffer.
///
/// What a backend makes of a view:
///
/// ```
/// # use arras_cpu::Cpu;
/// # use arras_rns::{Backend, Coefficient, Poly, Ring};
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193])?);
/// # let queue = cpu.queue()?;
/// # let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 4)?;
/// # cpu.upload(&queue, &mut poly.view_mut(), &[7; 4 * 2 * 16])?;
/// let view = poly.view().range(1..3)?;
/// let segment = view.segments()[0];
/// assert_eq!((segment.first, segment.count), (1, 2));
/// // Where limb 1 of the first of its polynomials begins.
/// let start = segment.extent.offset(segment.first, 1);
/// assert_eq!(start, 16 * (2 + 1));
/// assert_eq!(segment.buffer.as_slice()[start..][..16], [7; 16]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Debug)]
pub struct Segment<'a, T> {
    /// The memory.
    pub buffer: &'a T,
    /// How the memory is laid out.
    pub extent: Extent,
    /// The first polynomial.
    pub first: usize,
    /// The number of polynomials.
    pub count: usize,
}

impl<T> Clone for Segment<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Segment<'_, T> {}

/// Consecutive polynomials of one buffer, to be written.
///
/// See the example of [`Segment`].
#[derive(Debug)]
pub struct SegmentMut<'a, T> {
    /// The memory.
    pub buffer: &'a mut T,
    /// How the memory is laid out.
    pub extent: Extent,
    /// The first polynomial.
    pub first: usize,
    /// The number of polynomials.
    pub count: usize,
}

/// Polynomials to read: stretches of one or several buffers, the limbs of interest, and how often the whole sequence
/// is repeated. On a GPU a view of several buffers becomes a table of pointers.
///
/// ```
/// use arras_rns::View;
/// # use arras_cpu::Cpu;
/// # use arras_rns::{Backend, Coefficient, Poly, Ring};
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97])?);
/// # let queue = cpu.queue()?;
/// # let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 3)?;
/// cpu.upload(&queue, &mut poly.view_mut(), &[[0; 16], [1; 16], [2; 16]].concat())?;
/// // The last polynomial and then the first, twice over; nothing is copied.
/// let (first, last) = (poly.view().range(0..1)?, poly.view().range(2..3)?);
/// let view = View::concat([&last, &first])?.repeat(2);
/// let mut words = [0; 4 * 16];
/// cpu.download(&queue, &view, &mut words)?;
/// assert_eq!(words.chunks(16).map(|row| row[0]).collect::<Vec<_>>(), [2, 0, 2, 0]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub struct View<'a, B: Backend, D: Domain> {
    segments: SmallVec<[Segment<'a, B::Buffer>; 1]>,
    limbs: LimbSet,
    degree: usize,
    repeat: usize,
    domain: PhantomData<D>,
}

impl<B: Backend, D: Domain> Clone for View<'_, B, D> {
    fn clone(&self) -> Self {
        Self { segments: self.segments.clone(), ..*self }
    }
}

impl<'a, B: Backend, D: Domain> View<'a, B, D> {
    /// The polynomials of several views, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no view, or if limbs or degrees differ.
    pub fn concat<'v>(views: impl IntoIterator<Item = &'v View<'a, B, D>>) -> Result<Self>
    where
        'a: 'v,
    {
        let mut views = views.into_iter();
        let mut all = views.next().cloned().ok_or_else(|| Error::shape("concat", "number of views", 0, 1))?;
        all.unroll();
        for view in views {
            if (view.limbs, view.degree()) != (all.limbs, all.degree()) {
                let found = (view.limbs, view.degree());
                return Err(Error::shape("concat", "limbs and degree", found, (all.limbs, all.degree())));
            }
            for _ in 0..view.repeat {
                all.segments.extend_from_slice(&view.segments);
            }
        }
        Ok(all)
    }

    fn unroll(&mut self) {
        let once = self.segments.clone();
        if self.repeat == 0 {
            self.segments.clear();
        }
        for _ in 1..self.repeat {
            self.segments.extend_from_slice(&once);
        }
        self.repeat = 1;
    }

    /// Only the given limbs.
    ///
    /// # Errors
    /// [`Error::MissingLimbs`] if the view lacks one of them.
    pub fn with_limbs(mut self, limbs: LimbSet) -> Result<Self> {
        self.limbs = narrow(self.limbs, limbs)?;
        Ok(self)
    }

    /// Only polynomials `range`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the range leaves the batch, or the view repeats its polynomials.
    pub fn range(mut self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.batch() || self.repeat != 1 {
            return Err(Error::shape("range", "batch range", range, 0..self.batch()));
        }
        let mut start = 0;
        self.segments.retain(|segment| {
            let cut = clip(&range, start, segment.count);
            start += segment.count;
            segment.first += cut.start;
            segment.count = cut.len();
            segment.count > 0
        });
        Ok(self)
    }

    /// The whole sequence of polynomials, `times` times over (a broadcast, without copying).
    pub fn repeat(mut self, times: usize) -> Self {
        self.repeat = self.repeat.saturating_mul(times);
        self
    }

    /// The same memory, said to hold values of another domain.
    pub fn retag<E: Domain>(self) -> View<'a, B, E> {
        View {
            segments: self.segments,
            limbs: self.limbs,
            degree: self.degree,
            repeat: self.repeat,
            domain: PhantomData,
        }
    }

    /// Number of polynomials, repetitions included.
    pub fn batch(&self) -> usize {
        self.segments.iter().map(|segment| segment.count).sum::<usize>().saturating_mul(self.repeat)
    }

    /// The limbs of interest.
    pub fn limbs(&self) -> LimbSet {
        self.limbs
    }

    /// Coefficients per limb.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// The stretches of memory, for backends.
    pub fn segments(&self) -> &[Segment<'a, B::Buffer>] {
        &self.segments
    }

    /// How often the segments are gone through, for backends.
    pub fn repetitions(&self) -> usize {
        self.repeat
    }

    /// Every row with its limb, polynomial by polynomial and limb by limb: the buffer and the first word in it.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &'a B::Buffer, usize)> + '_ {
        (0..self.repeat).flat_map(move |_| {
            self.segments.iter().flat_map(move |segment| {
                (segment.first..segment.first + segment.count).flat_map(move |index| {
                    self.limbs
                        .iter()
                        .map(move |limb| (limb, segment.buffer, segment.extent.offset(index, limb)))
                })
            })
        })
    }

    /// The same view of buffers that wrap, or are wrapped by, those of another backend.
    ///
    /// # Errors
    /// Those of the function.
    pub fn try_map<C: Backend, E>(
        &self,
        buffer: impl Fn(&'a B::Buffer) -> std::result::Result<&'a C::Buffer, E>,
    ) -> std::result::Result<View<'a, C, D>, E> {
        let segments = self.segments.iter().map(|s| {
            Ok(Segment { buffer: buffer(s.buffer)?, extent: s.extent, first: s.first, count: s.count })
        });
        Ok(View {
            segments: segments.collect::<std::result::Result<_, E>>()?,
            limbs: self.limbs,
            degree: self.degree,
            repeat: self.repeat,
            domain: PhantomData,
        })
    }

    /// As [`try_map`](Self::try_map), where nothing can go wrong.
    pub fn map<C: Backend>(&self, buffer: impl Fn(&'a B::Buffer) -> &'a C::Buffer) -> View<'a, C, D> {
        let Ok(view) = self.try_map(|inner| Ok::<_, Infallible>(buffer(inner)));
        view
    }
}

/// Polynomials to write. No two rows of it are the same memory.
///
/// ```
/// use arras_rns::LimbSet;
/// # use arras_cpu::Cpu;
/// # use arras_rns::{Backend, Coefficient, Poly, Ring};
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193])?);
/// # let queue = cpu.queue()?;
/// # let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 2)?;
/// cpu.upload(&queue, &mut poly.view_mut(), &[0; 2 * 2 * 16])?;
/// // One limb of the second polynomial.
/// cpu.upload(&queue, &mut poly.view_mut().range(1..2)?.with_limbs(LimbSet::single(0))?, &[5; 16])?;
/// let mut words = [0; 2 * 2 * 16];
/// cpu.download(&queue, &poly.view(), &mut words)?;
/// assert_eq!(words.chunks(16).map(|row| row[0]).collect::<Vec<_>>(), [0, 0, 5, 0]);
///
/// let refused = poly.view_mut().range(1..3).unwrap_err();
/// assert_eq!(refused.to_string(), "range: batch range is 1..3, expected 0..2");
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub struct ViewMut<'a, B: Backend, D: Domain> {
    segments: SmallVec<[SegmentMut<'a, B::Buffer>; 1]>,
    limbs: LimbSet,
    degree: usize,
    domain: PhantomData<D>,
}

impl<'a, B: Backend, D: Domain> ViewMut<'a, B, D> {
    /// The polynomials of several views, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no view, or if limbs or degrees differ.
    pub fn concat(views: impl IntoIterator<Item = ViewMut<'a, B, D>>) -> Result<Self> {
        let mut views = views.into_iter();
        let mut all = views.next().ok_or_else(|| Error::shape("concat", "number of views", 0, 1))?;
        for view in views {
            if (view.limbs, view.degree()) != (all.limbs, all.degree()) {
                let found = (view.limbs, view.degree());
                return Err(Error::shape("concat", "limbs and degree", found, (all.limbs, all.degree())));
            }
            all.segments.extend(view.segments);
        }
        Ok(all)
    }

    /// Only the given limbs.
    ///
    /// # Errors
    /// [`Error::MissingLimbs`] if the view lacks one of them.
    pub fn with_limbs(mut self, limbs: LimbSet) -> Result<Self> {
        self.limbs = narrow(self.limbs, limbs)?;
        Ok(self)
    }

    /// Only polynomials `range`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the range leaves the batch.
    pub fn range(mut self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.batch() {
            return Err(Error::shape("range", "batch range", range, 0..self.batch()));
        }
        let mut start = 0;
        self.segments.retain(|segment| {
            let cut = clip(&range, start, segment.count);
            start += segment.count;
            segment.first += cut.start;
            segment.count = cut.len();
            segment.count > 0
        });
        Ok(self)
    }

    /// The same memory, said to hold values of another domain.
    pub fn retag<E: Domain>(self) -> ViewMut<'a, B, E> {
        ViewMut { segments: self.segments, limbs: self.limbs, degree: self.degree, domain: PhantomData }
    }

    /// The same memory, to read.
    pub fn as_view(&self) -> View<'_, B, D> {
        let segments = self.segments.iter().map(|s| Segment {
            buffer: &*s.buffer,
            extent: s.extent,
            first: s.first,
            count: s.count,
        });
        View {
            segments: segments.collect(),
            limbs: self.limbs,
            degree: self.degree,
            repeat: 1,
            domain: PhantomData,
        }
    }

    /// Number of polynomials.
    pub fn batch(&self) -> usize {
        self.segments.iter().map(|segment| segment.count).sum()
    }

    /// The limbs of interest.
    pub fn limbs(&self) -> LimbSet {
        self.limbs
    }

    /// Coefficients per limb.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// The stretches of memory, for backends.
    pub fn segments_mut(&mut self) -> &mut [SegmentMut<'a, B::Buffer>] {
        &mut self.segments
    }

    /// The same view, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, B, D> {
        let segments = self.segments.iter_mut().map(|s| SegmentMut {
            buffer: &mut *s.buffer,
            extent: s.extent,
            first: s.first,
            count: s.count,
        });
        ViewMut { segments: segments.collect(), limbs: self.limbs, degree: self.degree, domain: PhantomData }
    }

    /// The same view of buffers that wrap, or are wrapped by, those of another backend.
    ///
    /// # Errors
    /// Those of the function.
    pub fn try_map<C: Backend, E>(
        &mut self,
        buffer: impl Fn(&mut B::Buffer) -> std::result::Result<&mut C::Buffer, E>,
    ) -> std::result::Result<ViewMut<'_, C, D>, E> {
        let segments = self.segments.iter_mut().map(|s| {
            Ok(SegmentMut { buffer: buffer(s.buffer)?, extent: s.extent, first: s.first, count: s.count })
        });
        let segments = segments.collect::<std::result::Result<_, E>>()?;
        Ok(ViewMut { segments, limbs: self.limbs, degree: self.degree, domain: PhantomData })
    }

    /// As [`try_map`](Self::try_map), where nothing can go wrong.
    pub fn map<C: Backend>(
        &mut self,
        buffer: impl Fn(&mut B::Buffer) -> &mut C::Buffer,
    ) -> ViewMut<'_, C, D> {
        let Ok(view) = self.try_map(|inner| Ok::<_, Infallible>(buffer(inner)));
        view
    }
}

impl<B: Backend, D: Domain> fmt::Debug for View<'_, B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View[{}][{:?}][{}]", self.batch(), self.limbs, self.degree())
    }
}

impl<B: Backend, D: Domain> fmt::Debug for ViewMut<'_, B, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewMut[{}][{:?}][{}]", self.batch(), self.limbs, self.degree())
    }
}

fn narrow(available: LimbSet, wanted: LimbSet) -> Result<LimbSet> {
    if wanted.is_subset(available) {
        return Ok(wanted);
    }
    Err(Error::MissingLimbs { operation: "view", missing: wanted.difference(available), available })
}

/// The part of a segment that starts at `start` and has `count` polynomials which lies in `range`, relative to it.
fn clip(range: &std::ops::Range<usize>, start: usize, count: usize) -> std::ops::Range<usize> {
    let clamp = |position: usize| position.saturating_sub(start).min(count);
    clamp(range.start)..clamp(range.end)
}
