use std::collections::{BTreeMap, BTreeSet};

use super::cells::Vector;
use super::*;
use crate::baseline::colour_statistics;
use crate::{Features, train};

const SET: TileSet = TileSet { seed: 7, per_class: 4, patients: 2, sites: 2, size: 96 };

#[test]
fn every_machine_draws_the_same_pixels() {
    let mut hasher = blake3::Hasher::new();
    for tile in SET.iter() {
        hasher.update(&tile.unwrap().rgb);
    }
    assert_eq!(&hasher.finalize().to_hex()[..16], "1a98a4381c8c35fb");
}

#[test]
fn a_tile_depends_on_its_position_and_not_on_the_length_of_the_set() {
    let longer = TileSet { per_class: 40, ..SET };
    let mut seen = BTreeSet::new();
    for (position, tile) in SET.iter().enumerate() {
        let tile = tile.unwrap();
        assert_eq!(tile, longer.tile(position).unwrap());
        assert_eq!(tile.rgb.len(), 96 * 96 * 3);
        assert!(seen.insert(tile.rgb));
    }
    let other = TileSet { seed: 8, ..SET };
    assert!(!seen.contains(&other.tile(0).unwrap().rgb));
}

#[test]
fn names_classes_patients_and_sites_are_laid_out_as_stated() {
    let set = TileSet { per_class: 6, patients: 3, sites: 2, ..SET };
    let tiles: Vec<Tile> = set.iter().map(Result::unwrap).collect();
    assert_eq!(tiles.len(), set.len());
    assert_eq!(tiles.iter().map(|tile| &tile.name).collect::<BTreeSet<_>>().len(), 18);
    assert_eq!(tiles[4].name, "solid/solid-00001.png");
    let mut counts = BTreeMap::new();
    for tile in &tiles {
        assert_eq!(tile.class_name, CLASSES[tile.class]);
        assert_eq!(tile.site, tile.patient % 2);
        *counts.entry((tile.class, tile.patient)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 9);
    assert!(counts.values().all(|&count| count == 2));
}

#[test]
fn sizes_show_the_same_field() {
    let colours = |size| {
        let tile = TileSet { size, ..SET }.tile(1).unwrap();
        colour_statistics(&tile.rgb, size, size).unwrap()
    };
    let (small, large) = (colours(96), colours(200));
    assert!(small[..3].iter().zip(&large).all(|(a, b)| (a - b).abs() < 0.12), "{small:?} {large:?}");
    assert_eq!(TileSet { size: 33, ..SET }.tile(0).unwrap().rgb.len(), 33 * 33 * 3);
}

#[test]
fn parameters_out_of_range_are_refused() {
    for (set, expected) in [
        (TileSet { size: 31, ..SET }, "size: 31"),
        (TileSet { size: 1025, ..SET }, "size: 1025"),
        (TileSet { patients: 0, ..SET }, "patients: 0"),
        (TileSet { sites: 0, ..SET }, "sites: 0"),
        (TileSet { per_class: 0, ..SET }, "per_class: 0"),
    ] {
        assert!(set.tile(0).unwrap_err().to_string().starts_with(expected));
    }
    assert!(SET.tile(usize::MAX).is_ok());
}

#[test]
fn the_share_of_nuclei_does_not_tell_the_class() {
    let covered = |class: usize, index: u64| {
        let mut stream = Stream::new("tiles test", &[index]);
        let cells = cells::arrange(&mut stream, class, 1.0);
        let inside = cells.nuclei.iter().filter(|nucleus| {
            let Vector { x, y } = nucleus.centre;
            (0.0..REFERENCE_SIZE).contains(&x) && (0.0..REFERENCE_SIZE).contains(&y)
        });
        let area: f32 = inside.map(|nucleus| std::f32::consts::PI * nucleus.long * nucleus.short).sum();
        area / (REFERENCE_SIZE * REFERENCE_SIZE)
    };
    let means: Vec<f32> =
        (0..3).map(|class| (0..200).map(|index| covered(class, index)).sum::<f32>() / 200.0).collect();
    assert!(means.iter().all(|mean| (mean - means[0]).abs() < 0.01), "{means:?}");
}

#[test]
fn few_pixels_are_clipped() {
    let clipped = |tile: Tile| tile.rgb.iter().filter(|&&value| value == 0 || value == 255).count();
    let share =
        SET.iter().map(|tile| clipped(tile.unwrap())).sum::<usize>() as f64 / (12.0 * 96.0 * 96.0 * 3.0);
    assert!(share < 0.01, "{share}");
}

/// Leave-one-patient-out accuracy of a ridge head.
fn accuracy(set: &TileSet, of: impl Fn(&[u8]) -> Vec<f32>) -> f64 {
    let tiles: Vec<Tile> = set.iter().map(Result::unwrap).collect();
    let rows: Vec<Vec<f32>> = tiles.iter().map(|tile| of(&tile.rgb)).collect();
    let features = Features {
        dimension: rows[0].len(),
        values: rows.concat(),
        names: tiles.iter().map(|tile| tile.name.clone()).collect(),
        labels: Some(tiles.iter().map(|tile| tile.class_name.to_owned()).collect()),
        groups: Some(tiles.iter().map(|tile| tile.patient.to_string()).collect()),
        fingerprint: None,
    };
    train(&features, None).unwrap().evaluation.unwrap().accuracy.value
}

/// Random filters on patches of 12 by 12 pixels, rectified, then the mean and the deviation over the patches:
/// about what an untrained backbone sees.
fn random_texture_features(rgb: &[u8], size: usize, filters: &[f32]) -> Vec<f32> {
    const SIDE: usize = 12;
    let mut sums = vec![[0.0_f32; 2]; filters.len() / (SIDE * SIDE * 3)];
    let patches = size / SIDE;
    for patch in 0..patches * patches {
        let (top, left) = (patch / patches * SIDE, patch % patches * SIDE);
        let rows = (top..top + SIDE).map(|row| &rgb[(row * size + left) * 3..][..SIDE * 3]);
        let pixels: Vec<f32> = rows.flatten().map(|&value| f32::from(value) / 127.5 - 1.0).collect();
        for (sum, filter) in sums.iter_mut().zip(filters.chunks_exact(pixels.len())) {
            let response = filter.iter().zip(&pixels).map(|(w, x)| w * x).sum::<f32>().max(0.0);
            sum[0] += response;
            sum[1] += response * response;
        }
    }
    let count = (patches * patches) as f32;
    let pooled = sums.into_iter().map(|[sum, squares]| {
        let mean = sum / count;
        [mean, (squares / count - mean * mean).max(0.0).sqrt()]
    });
    pooled.flatten().collect()
}

#[test]
fn texture_tells_the_classes_apart_and_colour_does_not() {
    let set = TileSet { seed: 3, per_class: 200, patients: 10, sites: 2, size: 96 };
    let mut stream = Stream::new("tiles test", &[]);
    let filters: Vec<f32> = (0..384 * 12 * 12 * 3).map(|_| stream.bell() / 20.0).collect();
    let colour = accuracy(&set, |rgb| colour_statistics(rgb, 96, 96).unwrap().to_vec());
    let texture = accuracy(&set, |rgb| random_texture_features(rgb, 96, &filters));
    println!("colour {colour}, texture {texture}");
    assert!(colour < 0.45, "colour statistics reach {colour}");
    assert!(texture > 0.85, "random texture features reach only {texture}");
}
