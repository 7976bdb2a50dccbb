//! Position embeddings for another grid, as `Dinov2Model` computes them.

use crate::Size;

/// Bicubic interpolation of `[from.height][from.width][d]` to `[to.height][to.width][d]` as PyTorch's
/// `interpolate(mode="bicubic", align_corners=False)`: Keys' cubic with a = -0.75, edges repeated.
/// Equal grids are returned unchanged.
pub(crate) fn bicubic(values: &[f32], from: Size, to: Size, d: usize) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let rows = taps(from.height, to.height);
    let columns = taps(from.width, to.width);
    let mut out = Vec::with_capacity(to.area() * d);
    for row in &rows {
        for column in &columns {
            let start = out.len();
            out.resize(start + d, 0.0);
            for (y, wy) in row {
                for (x, wx) in column {
                    let source = &values[(y * from.width + x) * d..][..d];
                    let weight = wy * wx;
                    out[start..].iter_mut().zip(source).for_each(|(o, v)| *o += weight * v);
                }
            }
        }
    }
    out
}

/// Source index and weight of the four neighbours of every output index.
fn taps(from: usize, to: usize) -> Vec<[(usize, f32); 4]> {
    let scale = from as f64 / to as f64;
    let at = |output: usize| {
        let centre = scale * (output as f64 + 0.5) - 0.5;
        let floor = centre.floor();
        let fraction = centre - floor;
        std::array::from_fn(|tap| {
            let offset = tap as f64 - 1.0;
            // The cast saturates at 0, the lower edge.
            let index = ((floor + offset) as usize).min(from - 1);
            (index, cubic(offset - fraction) as f32)
        })
    };
    (0..to).map(at).collect()
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_interior_ramps_are_kept() {
        let (from, to) = (Size { height: 6, width: 9 }, Size { height: 11, width: 4 });
        let flat = bicubic(&[2.5; 6 * 9 * 2], from, to, 2);
        assert!(flat.iter().all(|v| (v - 2.5).abs() < 1e-6));
        // A cubic with a = -0.75 reproduces no ramp exactly, but the weights of a shift by half are symmetric.
        let ramp: Vec<f32> = (0..10).map(|x| x as f32).collect();
        let half = bicubic(&ramp, Size { height: 1, width: 10 }, Size { height: 1, width: 5 }, 1);
        assert!((half[2] - 4.5).abs() < 1e-6, "{half:?}");
        assert_eq!(bicubic(&ramp, Size { height: 2, width: 5 }, Size { height: 2, width: 5 }, 1), ramp);
    }
}
