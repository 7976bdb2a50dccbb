//! Where the nuclei are: what distinguishes the classes. Lengths are pixels of a tile of the reference size.

use super::REFERENCE_SIZE;
use crate::random::Stream;

/// Positions tried before a nucleus is given up.
const TRIES: usize = 40;
/// Nuclei drawn before a tile is called full.
const MAX_NUCLEI: usize = 400;
/// Nuclei may reach this far beyond the edge.
const OVERHANG: f32 = 6.0;
/// Share of the area under nuclei: the same in every class.
const AREA: [f32; 2] = [0.17, 0.23];
/// Share of the nuclear area that follows the pattern of the class; the rest is spread over the stroma.
const PURITY: [f32; 2] = [0.47, 0.95];

/// A vector of the plane; directions have length 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vector {
    pub(super) x: f32,
    pub(super) y: f32,
}

impl Vector {
    fn distance(self, other: Vector) -> f32 {
        let (x, y) = (self.x - other.x, self.y - other.y);
        (x * x + y * y).sqrt()
    }

    fn plus(self, direction: Vector, length: f32) -> Vector {
        Vector { x: self.x + length * direction.x, y: self.y + length * direction.y }
    }

    /// Turned by the angle whose half has the given tangent.
    fn turned(self, tangent: f32) -> Vector {
        let scale = 1.0 / (1.0 + tangent * tangent);
        let (cosine, sine) = ((1.0 - tangent * tangent) * scale, 2.0 * tangent * scale);
        Vector { x: cosine * self.x - sine * self.y, y: sine * self.x + cosine * self.y }
    }

    /// A uniform direction, by rejection from the square.
    pub(super) fn direction(stream: &mut Stream) -> Vector {
        loop {
            let (x, y) = (stream.uniform(-1.0, 1.0), stream.uniform(-1.0, 1.0));
            let length = (x * x + y * y).sqrt();
            if (0.1..=1.0).contains(&length) {
                return Vector { x: x / length, y: y / length };
            }
        }
    }

    fn anywhere(stream: &mut Stream) -> Vector {
        let mut coordinate = || stream.uniform(-OVERHANG, REFERENCE_SIZE + OVERHANG);
        Vector { x: coordinate(), y: coordinate() }
    }
}

/// An elliptic nucleus.
#[derive(Debug, Clone)]
pub(super) struct Nucleus {
    pub(super) centre: Vector,
    /// Of the long axis.
    pub(super) axis: Vector,
    /// Half the long and the short axis.
    pub(super) long: f32,
    pub(super) short: f32,
    /// Density of the stain, about 1.
    pub(super) density: f32,
}

/// The round hollow of a gland.
#[derive(Debug, Clone)]
pub(super) struct Lumen {
    pub(super) centre: Vector,
    pub(super) radius: f32,
}

/// Everything that is drawn over the stroma.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) nuclei: Vec<Nucleus>,
    pub(super) lumina: Vec<Lumen>,
}

/// Shape of the nuclei of a class: mean half axis, ratio of long to short axis, closest distance of centres in
/// units of the sum of the mean half axes.
struct Shape {
    radius: f32,
    elongation: [f32; 2],
    spacing: f32,
}

const GLANDULAR: Shape = Shape { radius: 3.3, elongation: [1.3, 1.7], spacing: 0.75 };
const SOLID: Shape = Shape { radius: 3.7, elongation: [1.0, 1.4], spacing: 0.85 };
const SCATTERED: Shape = Shape { radius: 2.9, elongation: [1.0, 1.15], spacing: 1.4 };
const STROMAL: Shape = Shape { radius: 3.1, elongation: [1.0, 2.0], spacing: 1.1 };

/// Draws the cells of a tile. `cell_size` is the patient's factor on lengths of nuclei.
pub(super) fn arrange(stream: &mut Stream, class: usize, cell_size: f32) -> Cells {
    let mut field = Field { cells: Cells::default(), covered: 0.0, cell_size };
    let area = stream.uniform(AREA[0], AREA[1]) * REFERENCE_SIZE * REFERENCE_SIZE;
    let purity = stream.uniform(PURITY[0], PURITY[1]);
    match class {
        0 => field.glands(stream, area * purity),
        1 => field.nests(stream, area * purity),
        _ => field.spread(stream, area * purity, &SCATTERED),
    }
    field.spread(stream, area, &STROMAL);
    field.cells
}

struct Field {
    cells: Cells,
    /// Area of the nuclei within the tile so far.
    covered: f32,
    cell_size: f32,
}

impl Field {
    fn is_full(&self, area: f32) -> bool {
        self.covered >= area || self.cells.nuclei.len() >= MAX_NUCLEI
    }

    /// Adds a nucleus unless it crowds another.
    fn place(&mut self, stream: &mut Stream, shape: &Shape, centre: Vector, axis: Vector) -> bool {
        let radius = shape.radius * self.cell_size * (1.0 + 0.12 * stream.bell());
        let stretch = stream.uniform(shape.elongation[0], shape.elongation[1]).sqrt();
        let is_crowded = self.cells.nuclei.iter().any(|other| {
            let other_radius = 0.5 * (other.long + other.short);
            centre.distance(other.centre) < shape.spacing * (radius + other_radius)
        });
        if is_crowded {
            return false;
        }
        let (long, short) = (radius * stretch, radius / stretch);
        let density = 1.0 + 0.12 * stream.bell();
        self.cells.nuclei.push(Nucleus { centre, axis, long, short, density });
        let is_inside = |x: f32| (0.0..REFERENCE_SIZE).contains(&x);
        if is_inside(centre.x) && is_inside(centre.y) {
            self.covered += std::f32::consts::PI * long * short;
        }
        true
    }

    /// Nuclei anywhere outside lumina.
    fn spread(&mut self, stream: &mut Stream, area: f32, shape: &Shape) {
        let mut failures = 0;
        while !self.is_full(area) && failures < TRIES {
            let (centre, axis) = (Vector::anywhere(stream), Vector::direction(stream));
            let is_hollow =
                self.cells.lumina.iter().any(|lumen| centre.distance(lumen.centre) < lumen.radius);
            failures = if !is_hollow && self.place(stream, shape, centre, axis) { 0 } else { failures + 1 };
        }
    }

    /// Rings of radial nuclei around lumina, as long as a whole ring fits into the area.
    fn glands(&mut self, stream: &mut Stream, area: f32) {
        for _ in 0..TRIES {
            let (centre, radius) = (Vector::anywhere(stream), stream.uniform(8.0, 15.0));
            let nucleus = GLANDULAR.radius * self.cell_size;
            let pitch = 1.9 * nucleus;
            let count = std::f32::consts::TAU * radius / pitch;
            let fits = self.covered + count * std::f32::consts::PI * nucleus * nucleus < area;
            let is_free = self
                .cells
                .lumina
                .iter()
                .all(|other| centre.distance(other.centre) > radius + other.radius + 9.0);
            if fits && is_free {
                self.cells.lumina.push(Lumen { centre, radius: radius - 3.0 });
                self.ring(stream, centre, radius, pitch, count as usize);
            }
        }
    }

    fn ring(&mut self, stream: &mut Stream, centre: Vector, radius: f32, pitch: f32, count: usize) {
        let mut outward = Vector::direction(stream);
        for _ in 0..count {
            // The tangent of half the angle between neighbours; exact to second order, and jittered anyway.
            outward = outward.turned(0.5 * pitch / radius * (1.0 + 0.15 * stream.bell()));
            let on_ring = centre.plus(outward, radius + 0.8 * stream.bell());
            self.place(stream, &GLANDULAR, on_ring, outward);
        }
    }

    /// Crowded nuclei within discs.
    fn nests(&mut self, stream: &mut Stream, area: f32) {
        for _ in 0..TRIES {
            if self.is_full(area) {
                return;
            }
            let (centre, radius) = (Vector::anywhere(stream), stream.uniform(12.0, 20.0));
            let mut failures = 0;
            while !self.is_full(area) && failures < TRIES {
                let inside = centre.plus(Vector::direction(stream), radius * stream.uniform(0.0, 1.0).sqrt());
                let axis = Vector::direction(stream);
                failures = if self.place(stream, &SOLID, inside, axis) { 0 } else { failures + 1 };
            }
        }
    }
}
