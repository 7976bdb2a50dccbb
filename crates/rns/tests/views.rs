//! Views: what they select, how they combine, what they refuse. A word is `100 polynomial + 10 limb + index`, plus 1000
//! for each further buffer, so that it says where it comes from.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers included")]

use arras_cpu::Cpu;
use arras_rns::{Backend, Coefficient, Error, Evaluation, LimbSet, Poly, Ring, View};

const DEGREE: usize = 8;

fn ring() -> Ring {
    Ring::new(DEGREE, &[97, 113, 193, 241, 257]).unwrap()
}

fn set(limbs: &[usize]) -> LimbSet {
    limbs.iter().copied().collect()
}

struct Fixture {
    cpu: Cpu,
    queue: arras_cpu::Queue,
}

impl Fixture {
    fn new() -> Self {
        let cpu = Cpu::sequential();
        let queue = cpu.queue().unwrap();
        Self { cpu, queue }
    }

    fn poly(&self, number: usize, limbs: &[usize], batch: usize) -> Poly<Cpu, Coefficient> {
        let mut poly = Poly::allocate(&self.cpu, &self.queue, &ring(), set(limbs), batch).unwrap();
        let word = |b: usize, limb: usize, i: usize| (1000 * number + 100 * b + 10 * limb + i) as u64;
        let words: Vec<u64> = (0..batch)
            .flat_map(|b| limbs.iter().flat_map(move |&limb| (0..DEGREE).map(move |i| word(b, limb, i))))
            .collect();
        self.cpu.upload(&self.queue, &mut poly.view_mut(), &words).unwrap();
        poly
    }

    /// The first word of every row: buffer, polynomial and limb.
    fn starts(&self, view: &View<'_, Cpu, Coefficient>) -> Vec<u64> {
        let mut words = vec![0; view.batch() * view.limbs().len() * view.degree()];
        self.cpu.download(&self.queue, view, &mut words).unwrap();
        let starts: Vec<u64> = words.chunks(DEGREE).map(|row| row[0]).collect();
        for (row, start) in words.chunks(DEGREE).zip(&starts) {
            assert!(row.iter().enumerate().all(|(i, &word)| word == start + i as u64), "{row:?}");
        }
        let rows: Vec<u64> = view
            .rows()
            .map(|(limb, buffer, offset)| {
                let start = buffer.as_slice()[offset];
                assert_eq!(start / 10 % 10, limb as u64, "rows() names another limb than it points to");
                start
            })
            .collect();
        assert_eq!(rows, starts);
        starts
    }
}

#[test]
fn limb_subsets_are_found_by_rank() {
    let (at, poly) = (Fixture::new(), Fixture::new().poly(0, &[0, 2, 3, 4], 2));
    assert_eq!(at.starts(&poly.view()), [0, 20, 30, 40, 100, 120, 130, 140]);
    let some = poly.view().with_limbs(set(&[2, 4])).unwrap();
    assert_eq!(at.starts(&some), [20, 40, 120, 140]);
    assert_eq!(at.starts(&some.clone().with_limbs(set(&[4])).unwrap()), [40, 140]);
    assert_eq!(some.clone().with_limbs(LimbSet::EMPTY).unwrap().rows().count(), 0);
    // What has been left out cannot come back.
    let error = some.with_limbs(set(&[2, 3])).unwrap_err();
    let (missing, available) = (set(&[3]), set(&[2, 4]));
    assert_eq!(error, Error::MissingLimbs { operation: "view", missing, available });
    assert!(poly.view().with_limbs(set(&[1])).is_err());
}

#[test]
fn ranges_cut_and_compose() {
    let (at, poly) = (Fixture::new(), Fixture::new().poly(0, &[1], 5));
    let view = poly.view();
    assert_eq!(at.starts(&view.clone().range(1..4).unwrap()), [110, 210, 310]);
    assert_eq!(at.starts(&view.clone().range(1..4).unwrap().range(1..3).unwrap()), [210, 310]);
    assert_eq!(at.starts(&view.clone().range(4..5).unwrap()), [410]);
    for (start, end) in [(0, 6), (5, 6), (6, 6), (3, 2), (0, usize::MAX)] {
        let range = std::ops::Range { start, end };
        assert!(matches!(view.clone().range(range.clone()), Err(Error::Shape { .. })), "{range:?}");
    }
}

#[test]
fn empty_ranges_keep_their_shape() {
    let (at, mut poly) = (Fixture::new(), Fixture::new().poly(0, &[1, 2], 3));
    for empty in [0..0, 1..1, 3..3] {
        let view = poly.view().range(empty.clone()).unwrap();
        assert_eq!((view.batch(), view.limbs(), view.degree()), (0, set(&[1, 2]), DEGREE));
        assert!(at.starts(&view).is_empty());
        drop(view);
        let view = poly.view_mut().range(empty).unwrap();
        assert_eq!((view.batch(), view.limbs(), view.degree()), (0, set(&[1, 2]), DEGREE));
    }
}

#[test]
fn concat_goes_through_buffers_in_order() {
    let at = Fixture::new();
    let (first, second, third) = (at.poly(0, &[0, 1, 2], 2), at.poly(1, &[1], 3), at.poly(2, &[1, 4], 1));
    let views = [
        second.view().range(1..3).unwrap(),
        first.view().with_limbs(set(&[1])).unwrap(),
        third.view().with_limbs(set(&[1])).unwrap(),
    ];
    let all = View::concat(&views).unwrap();
    assert_eq!(at.starts(&all), [1110, 1210, 10, 110, 2010]);
    // A range may cross from one buffer to the next, and leave buffers out.
    assert_eq!(at.starts(&all.clone().range(1..3).unwrap()), [1210, 10]);
    assert_eq!(at.starts(&all.clone().range(4..5).unwrap()), [2010]);
    assert_eq!(at.starts(&View::concat([&all, &views[2]]).unwrap()), [1110, 1210, 10, 110, 2010, 2010]);
}

#[test]
fn concat_refuses_what_does_not_fit() {
    let at = Fixture::new();
    let (first, second) = (at.poly(0, &[0, 1], 1), at.poly(1, &[0], 1));
    assert!(matches!(View::concat([&first.view(), &second.view()]), Err(Error::Shape { .. })));
    let none: [&View<'_, Cpu, Coefficient>; 0] = [];
    assert!(matches!(View::concat(none), Err(Error::Shape { .. })));
    let larger = Ring::new(2 * DEGREE, &[97, 193]).unwrap();
    let larger: Poly<Cpu, Coefficient> =
        Poly::allocate(&at.cpu, &at.queue, &larger, set(&[0, 1]), 1).unwrap();
    assert!(matches!(View::concat([&first.view(), &larger.view()]), Err(Error::Shape { .. })));
    // Not even when there is nothing in it.
    let nothing = larger.view().range(0..0).unwrap();
    assert!(matches!(View::concat([&first.view(), &nothing]), Err(Error::Shape { .. })));
}

#[test]
fn repeat_goes_round() {
    let at = Fixture::new();
    let (poly, other) = (at.poly(0, &[1], 2), at.poly(1, &[1], 1));
    let twice = poly.view().repeat(2);
    assert_eq!(at.starts(&twice), [10, 110, 10, 110]);
    assert_eq!(at.starts(&twice.clone().repeat(2)).len(), 8);
    assert_eq!(at.starts(&poly.view().range(1..2).unwrap().repeat(3)), [110, 110, 110]);
    assert_eq!(at.starts(&View::concat([&twice, &other.view()]).unwrap()), [10, 110, 10, 110, 1010]);
    assert_eq!(at.starts(&View::concat([&other.view(), &twice]).unwrap()), [1010, 10, 110, 10, 110]);
    assert!(matches!(twice.range(0..1), Err(Error::Shape { .. })));
}

#[test]
fn repeating_nothing_and_no_times() {
    let at = Fixture::new();
    let (poly, other) = (at.poly(0, &[1], 2), at.poly(1, &[1], 1));
    let none = poly.view().repeat(0);
    assert_eq!((none.batch(), none.degree()), (0, DEGREE));
    assert!(at.starts(&none).is_empty());
    assert_eq!(at.starts(&View::concat([&none, &other.view()]).unwrap()), [1010]);
    assert_eq!(at.starts(&View::concat([&other.view(), &none]).unwrap()), [1010]);
    assert_eq!(poly.view().repeat(usize::MAX).repeat(3).batch(), usize::MAX);
}

#[test]
fn writing_through_views_reaches_only_what_they_select() {
    let at = Fixture::new();
    let (mut first, mut second) = (at.poly(0, &[0, 1], 3), at.poly(1, &[1, 2], 2));
    let views = [
        first.view_mut().range(2..3).unwrap().with_limbs(set(&[1])).unwrap(),
        second.view_mut().with_limbs(set(&[1])).unwrap(),
    ];
    let mut all = arras_rns::ViewMut::concat(views).unwrap().range(0..2).unwrap();
    assert_eq!((all.batch(), all.limbs()), (2, set(&[1])));
    assert_eq!(at.starts(&all.as_view()), [210, 1010]);
    let words: Vec<u64> = (0..16).map(|i| if i < 8 { 9010 + i } else { 8010 + i - 8 }).collect();
    at.cpu.upload(&at.queue, &mut all, &words).unwrap();
    assert!(all.with_limbs(set(&[1, 2])).is_err());
    assert_eq!(at.starts(&first.view()), [0, 10, 100, 110, 200, 9010]);
    assert_eq!(at.starts(&second.view()), [8010, 1020, 1110, 1120]);
    assert!(first.view_mut().range(2..4).is_err());
    assert!(arras_rns::ViewMut::<Cpu, Coefficient>::concat([]).is_err());
}

#[test]
fn tags_and_maps_keep_the_memory() {
    let at = Fixture::new();
    let poly = at.poly(0, &[1, 3], 2);
    let view = poly.view().range(1..2).unwrap();
    let values: View<'_, Cpu, Evaluation> = view.clone().retag();
    assert_eq!(at.starts(&values.retag()), [110, 130]);
    assert_eq!(at.starts(&view.map(|buffer| buffer)), [110, 130]);
    drop(view);
    let mut poly: Poly<Cpu, Evaluation> = poly.retag();
    assert_eq!(format!("{poly:?}"), "Poly<evaluation>[2][{1, 3}][8]");
    let mut view = poly.view_mut().range(1..2).unwrap().retag::<Coefficient>();
    assert_eq!(format!("{view:?}"), "ViewMut[1][{1, 3}][8]");
    assert_eq!(at.starts(&view.map::<Cpu>(|buffer| buffer).as_view()), [110, 130]);
}

#[test]
fn allocation_refuses_limbs_the_ring_lacks_and_impossible_sizes() {
    let at = Fixture::new();
    let allocate = |limbs, batch| {
        Poly::<Cpu, Coefficient>::allocate(&at.cpu, &at.queue, &ring(), limbs, batch)
            .map(|poly| poly.extent().words())
    };
    assert_eq!(allocate(set(&[0, 4]), 3), Ok(3 * 2 * DEGREE));
    assert_eq!(allocate(set(&[0]), 0), Ok(0));
    assert!(matches!(allocate(set(&[0, 5]), 1), Err(Error::MissingLimbs { .. })));
    assert!(matches!(allocate(LimbSet::EMPTY, 1), Err(Error::MissingLimbs { .. })));
    assert!(matches!(allocate(set(&[0, 1]), usize::MAX / 8), Err(Error::Shape { .. })));
    assert!(matches!(allocate(set(&[0]), usize::MAX / 128), Err(Error::Device { .. })));
}
