//! What colour alone can tell: the floor a texture-aware backbone has to beat.

/// Mean and standard deviation of red, green and blue, in \[0, 1\]: `[mean r, g, b, deviation r, g, b]`.
///
/// `rgb` is `[height][width][3]`. Sums are exact (integers), so the result does not depend on the order of the
/// pixels. `None` if the length does not fit or the image is empty.
#[must_use]
pub fn colour_statistics(rgb: &[u8], width: usize, height: usize) -> Option<[f32; 6]> {
    let pixels = width.checked_mul(height)?;
    if pixels == 0 || rgb.len() != pixels.checked_mul(3)? {
        return None;
    }
    let mut sums = [[0_u64; 2]; 3];
    for pixel in rgb.as_chunks::<3>().0 {
        for (sum, &value) in sums.iter_mut().zip(pixel) {
            let value = u64::from(value);
            sum[0] += value;
            sum[1] += value * value;
        }
    }
    let count = pixels as f64;
    let mut statistics = [0.0; 6];
    for (channel, [sum, squares]) in sums.into_iter().enumerate() {
        let mean = sum as f64 / count;
        let variance = (squares as f64 / count - mean * mean).max(0.0);
        statistics[channel] = (mean / 255.0) as f32;
        statistics[channel + 3] = (variance.sqrt() / 255.0) as f32;
    }
    Some(statistics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_and_two_tone_images_have_the_statistics_one_computes_by_hand() {
        assert_eq!(colour_statistics(&[255, 0, 51].repeat(6), 3, 2), Some([1.0, 0.0, 0.2, 0.0, 0.0, 0.0]));
        let halves = [[0, 100, 255], [255, 100, 0]].concat();
        let found = colour_statistics(&halves, 2, 1).unwrap();
        assert_eq!(found, [0.5, 100.0 / 255.0, 0.5, 0.5, 0.0, 0.5]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(colour_statistics(&[0; 12], 2, 1), None);
        assert_eq!(colour_statistics(&[], 0, 5), None);
        assert_eq!(colour_statistics(&[0; 3], usize::MAX, 2), None);
    }
}
