use candle_core::Device;
use serde_json::Value;

use super::*;
use crate::Error;

/// Bits from counters, the finaliser `lowbias32`; as `scripts/metrics-fixtures.py` has it.
fn mix(x: u64) -> u32 {
    let mut x = x as u32;
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

fn picture(height: u64, width: u64, [seed, ramp, noise]: [u64; 3]) -> Image {
    let byte = |index: u64| {
        let (y, x, c) = (index / 3 / width, index / 3 % width, index % 3);
        let noise = u64::from(mix(index + (seed << 20))) % noise;
        ((ramp * (2 * x + 3 * y) / 4 + 40 * c + noise) % 256) as u8
    };
    let bytes: Vec<u8> = (0..height * width * 3).map(byte).collect();
    Image::from_rgb8(height as usize, width as usize, &bytes).unwrap()
}

fn weights(name: &str, shape: &[usize], low: f32, high: f32) -> (String, candle_core::Tensor) {
    let start = name.bytes().rev().fold(0_u32, |sum, b| sum.wrapping_mul(257).wrapping_add(b.into()));
    let unit = |index: usize| (mix(index as u64 + u64::from(start)) >> 8) as f32 / (1 << 24) as f32;
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|index| low + unit(index) * (high - low)).collect();
    (name.to_owned(), candle_core::Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
}

fn alexnet() -> Lpips {
    let sides = [
        ("net.slice1.0", [64, 3, 11, 11]),
        ("net.slice2.3", [192, 64, 5, 5]),
        ("net.slice3.6", [384, 192, 3, 3]),
        ("net.slice4.8", [256, 384, 3, 3]),
        ("net.slice5.10", [256, 256, 3, 3]),
    ];
    let tensors = sides.iter().enumerate().flat_map(|(index, (name, shape))| {
        let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
        [
            weights(&format!("{name}.weight"), shape, -bound, bound),
            weights(&format!("{name}.bias"), &shape[..1], -0.1, 0.1),
            weights(&format!("lin{index}.model.1.weight"), &[1, shape[0], 1, 1], 0.0, 1.0),
        ]
    });
    Lpips::from_tensors(&tensors.collect()).unwrap()
}

#[test]
fn metrics_are_those_of_the_packages() -> Result<()> {
    let fixtures: Value = serde_json::from_str(include_str!("../../kat/metrics.json")).unwrap();
    let lpips = alexnet();
    let cases = fixtures["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let numbers = |key: &str| {
            let values = case[key].as_array().unwrap();
            [0, 1, 2].map(|i| values[i].as_u64().unwrap())
        };
        let side = |key: &str| case[key].as_u64().unwrap();
        let [a, b] = ["a", "b"].map(|key| picture(side("height"), side("width"), numbers(key)));
        let found = Similarity::of(&a, &b, case["lpips"].is_number().then_some(&lpips))?;
        for (name, value, reference) in [
            ("psnr", found.psnr, "psnr"),
            ("psnr", found.psnr, "psnr_torchmetrics"),
            ("ssim_uniform", found.ssim_uniform, "ssim_uniform"),
            ("ssim_gaussian", found.ssim_gaussian, "ssim_gaussian"),
            ("ssim_gaussian", found.ssim_gaussian, "ssim_torchmetrics"),
            ("nmi_1_2", found.nmi_1_2, "nmi_1_2"),
            ("nmi_0_1", found.nmi_0_1, "nmi_0_1"),
        ] {
            let difference = (value - number(reference)).abs();
            // torchmetrics has a constant in single precision.
            assert!(
                difference < 1e-6 * value.abs().max(1.0),
                "{name}: {value} is not {}: {case}",
                number(reference)
            );
        }
        if let Some(found) = found.lpips {
            assert!((found - number("lpips")).abs() < 1e-5, "lpips: {found}: {case}");
        }
    }
    Ok(())
}

#[test]
fn equal_pictures_are_as_close_as_can_be() -> Result<()> {
    let a = picture(40, 40, [1, 2, 32]);
    let found = Similarity::of(&a, &a, Some(&alexnet()))?;
    assert_eq!(found.psnr, f64::INFINITY);
    assert!((found.ssim_uniform - 1.0).abs() < 1e-12 && (found.ssim_gaussian - 1.0).abs() < 1e-12);
    assert!((found.nmi_1_2 - 2.0).abs() < 1e-12 && (found.nmi_0_1 - 1.0).abs() < 1e-12);
    assert_eq!(found.lpips, Some(0.0));
    Ok(())
}

#[test]
fn pictures_of_one_colour_share_nothing() -> Result<()> {
    let flat = |value| Image::new(3, 16, 16, vec![value; 768]);
    let (a, b) = (flat(0.25)?, flat(0.5)?);
    assert_eq!((nmi_1_2(&a, &b)?, nmi_0_1(&a, &b)?), (1.0, 0.0));
    assert!((psnr(&a, &b)? - 10.0 * 16_f64.log10()).abs() < 1e-6);
    Ok(())
}

#[test]
fn pictures_that_do_not_fit_are_refused() {
    let (a, b, c) = (picture(16, 16, [1, 1, 9]), picture(16, 17, [1, 1, 9]), picture(10, 16, [1, 1, 9]));
    assert!(Similarity::of(&a, &b, None).is_err());
    assert!(Similarity::of(&c, &c, None).is_err());
    assert!(alexnet().distance(&a, &a).is_err());
    assert!(matches!(Lpips::load("nowhere".as_ref()), Err(Error::File { .. })));
}
