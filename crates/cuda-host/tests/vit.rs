//! The kernels of the vision transformer on the host against formulas in 64-bit floats: the fused and the simple ones, f32 and bf16, at
//! widths that the fused ones take and at others; and uploads that overlap with work.

mod support;

use std::process::ExitCode;

use arras_cuda::driver::{DevicePtr, Driver};
use arras_cuda::upload::Uploads;
use arras_cuda::vit::{Activation, Element, Rows, VitKernels};
use arras_cuda::{Cuda, DriverError};
use arras_cuda_host::{HostDriver, HostOptions, HostStream, Lanes, Schedule};
use half::bf16;
use libtest_mimic::Trial;
use support::ensure;

type Outcome = Result<(), String>;
/// An operation by its name.
type Operation = (&'static str, fn(Case) -> Outcome);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Half a unit in the last place of the stored type, relative.
fn rounding(element: Element) -> f64 {
    match element {
        Element::F32 => f64::powi(2.0, -24),
        Element::Bf16 => f64::powi(2.0, -8),
    }
}

/// Values within `scale`, as they can be stored.
fn values(element: Element, count: usize, seed: usize, scale: f64) -> Vec<f64> {
    let value = |i: usize| scale * (((i + 31 * seed) * 7919 % 1009) as f64 / 504.5 - 1.0);
    let stored = |x: f64| match element {
        Element::F32 => f64::from(x as f32),
        Element::Bf16 => bf16::from_f64(x).to_f64(),
    };
    (0..count).map(|i| stored(value(i))).collect()
}

fn to_bytes(element: Element, values: &[f64]) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|&x| (x as f32).to_ne_bytes()).collect(),
        Element::Bf16 => values.iter().flat_map(|&x| bf16::from_f64(x).to_ne_bytes()).collect(),
    }
}

fn from_bytes(element: Element, bytes: &[u8]) -> Vec<f64> {
    match element {
        Element::F32 => bytes.as_chunks().0.iter().map(|&x| f32::from_ne_bytes(x).into()).collect(),
        Element::Bf16 => bytes.as_chunks().0.iter().map(|&x| bf16::from_ne_bytes(x).to_f64()).collect(),
    }
}

/// Kernels, a stream, and the tensors of one call.
struct Lab {
    kernels: VitKernels<HostDriver>,
    stream: HostStream,
}

impl Lab {
    fn new(options: HostOptions, simple: bool) -> Result<Self, String> {
        let cuda = support::cuda(options).map_err(text)?;
        let kernels = VitKernels::new(&cuda).map_err(text)?;
        let stream = cuda.driver().stream().map_err(text)?;
        Ok(Self { kernels: if simple { kernels.simple() } else { kernels }, stream })
    }

    fn driver(&self) -> &HostDriver {
        self.kernels.cuda().driver()
    }

    fn put(&self, bytes: &[u8]) -> Result<DevicePtr, DriverError> {
        let at = self.driver().allocate(&self.stream, bytes.len())?;
        // SAFETY: just allocated with as many bytes.
        unsafe { self.driver().upload(&self.stream, at, bytes)? };
        Ok(at)
    }

    fn get(&self, at: DevicePtr, bytes: usize) -> Result<Vec<u8>, DriverError> {
        let mut found = vec![0; bytes];
        // SAFETY: as many were allocated.
        unsafe { self.driver().download(&self.stream, &mut found, at)? };
        Ok(found)
    }

    /// Runs an operation on tensors; what the first one holds then.
    fn run(
        &self,
        element: Element,
        tensors: &[&[f64]],
        operation: impl FnOnce(&VitKernels<HostDriver>, &HostStream, &[DevicePtr]) -> Result<(), DriverError>,
    ) -> Result<Vec<f64>, String> {
        let run = || {
            let addresses = tensors.iter().map(|values| self.put(&to_bytes(element, values)));
            let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
            operation(&self.kernels, &self.stream, &addresses)?;
            self.get(addresses[0], tensors[0].len() * element.bytes())
        };
        run().map(|bytes| from_bytes(element, &bytes)).map_err(text)
    }
}

/// Compares with a relative bound, absolute below `floor`.
fn close(what: &str, found: &[f64], expected: &[f64], relative: f64, floor: f64) -> Outcome {
    ensure(found.len() == expected.len(), || format!("{what}: another length"))?;
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let bound = relative * expected.abs().max(floor);
        ensure((found - expected).abs() <= bound, || {
            format!("{what}: value {i} is {found}, expected {expected} to {bound:e}")
        })?;
    }
    Ok(())
}

/// Abramowitz and Stegun 7.1.26 is not enough here: the error function by its series, or by its continued fraction.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let positive = if z < 2.5 {
        let mut term = z;
        let mut sum = z;
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(z, |below, n| z + f64::from(n) / 2.0 / below);
        1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    positive.copysign(x)
}

fn activation(f: Activation, x: f64) -> f64 {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    match f {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::QuickGelu => x * logistic(1.702 * x),
        Activation::Relu => x.max(0.0),
    }
}

#[derive(Clone, Copy)]
struct Case {
    element: Element,
    rows: usize,
    width: usize,
    simple: bool,
    lanes: Lanes,
}

impl Case {
    fn shape(self) -> Rows {
        Rows { element: self.element, rows: self.rows, width: self.width }
    }

    fn values(self, seed: usize, scale: f64) -> Vec<f64> {
        values(self.element, self.rows * self.width, seed, scale)
    }

    fn row(self, seed: usize, scale: f64) -> Vec<f64> {
        values(self.element, self.width, seed, scale)
    }

    fn lab(self) -> Result<Lab, String> {
        Lab::new(HostOptions { lanes: self.lanes, ..HostOptions::default() }, self.simple)
    }
}

/// Relative to each value: the argument of the exponential, at most 60, is rounded, and 32 or more terms are added up.
fn softmax(case: Case) -> Outcome {
    let (x, scale) = (case.values(1, 40.0), 0.75f32);
    let found = case.lab()?.run(case.element, &[&x], |kernels, stream, at| {
        // SAFETY: tensors of these shapes, here and below.
        unsafe { kernels.softmax(stream, case.shape(), at[0], scale) }
    })?;
    let expected: Vec<f64> = x
        .chunks_exact(case.width)
        .flat_map(|row| {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row.iter().map(|x| (f64::from(scale) * (x - top)).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(move |power| power / sum)
        })
        .collect();
    close("softmax", &found, &expected, rounding(case.element) + 1e-5, 1e-30)
}

fn layer_norm(case: Case) -> Outcome {
    let (x, weight, bias) = (case.values(2, 5.0), case.row(3, 1.5), case.row(4, 0.5));
    let out = vec![0.0; x.len()];
    let epsilon = 1e-6f32;
    let found = case.lab()?.run(case.element, &[&out, &x, &weight, &bias], |kernels, stream, at| {
        // SAFETY: as above.
        unsafe { kernels.layer_norm(stream, case.shape(), [at[0], at[1], at[2], at[3]], epsilon) }
    })?;
    let n = case.width as f64;
    let expected: Vec<f64> = x
        .chunks_exact(case.width)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let unit = 1.0 / (variance + f64::from(epsilon)).sqrt();
            let terms = row.iter().zip(&weight).zip(&bias);
            terms.map(move |((x, w), b)| (x - mean) * unit * w + b).collect::<Vec<_>>()
        })
        .collect();
    close("layer_norm", &found, &expected, rounding(case.element) + 1e-5, 1.0)
}

fn pointwise(case: Case) -> Outcome {
    let (x, y, bias) = (case.values(5, 6.0), case.values(6, 2.0), case.row(7, 1.0));
    let lab = case.lab()?;
    let repeated: Vec<f64> = bias.iter().copied().cycle().take(x.len()).collect();
    let bound = rounding(case.element) + 2e-6;
    let found = lab.run(case.element, &[&x, &bias], |kernels, stream, at| {
        // SAFETY: as above.
        unsafe { kernels.add_bias(stream, case.shape(), at[0], at[1]) }
    })?;
    let expected: Vec<f64> = x.iter().zip(&repeated).map(|(x, b)| x + b).collect();
    close("add_bias", &found, &expected, bound, 1.0)?;
    let found = lab.run(case.element, &[&x, &y, &bias], |kernels, stream, at| {
        // SAFETY: as above.
        unsafe { kernels.residual(stream, case.shape(), [at[0], at[1], at[2]]) }
    })?;
    let sums: Vec<f64> = expected.iter().zip(&y).map(|(x, y)| x + y).collect();
    close("residual", &found, &sums, bound, 1.0)?;
    for f in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu] {
        let found = lab.run(case.element, &[&x, &bias], |kernels, stream, at| {
            // SAFETY: as above.
            unsafe { kernels.activate(stream, case.shape(), f, at[0], at[1]) }
        })?;
        let expected: Vec<f64> = expected.iter().map(|&x| activation(f, x)).collect();
        close(&format!("{f:?}"), &found, &expected, bound, 1.0)?;
    }
    Ok(())
}

fn swiglu(case: Case) -> Outcome {
    let wide = Case { width: 2 * case.width, ..case };
    let (y, bias, out) = (wide.values(8, 4.0), wide.row(9, 1.0), vec![0.0; case.rows * case.width]);
    let found = case.lab()?.run(case.element, &[&out, &y, &bias], |kernels, stream, at| {
        // SAFETY: as above.
        unsafe { kernels.swiglu(stream, case.shape(), [at[0], at[1], at[2]]) }
    })?;
    let expected: Vec<f64> = y
        .chunks_exact(wide.width)
        .flat_map(|row| {
            let sums: Vec<f64> = row.iter().zip(&bias).map(|(y, b)| y + b).collect();
            (0..case.width).map(move |i| sums[i] / (1.0 + (-sums[i]).exp()) * sums[case.width + i])
        })
        .collect();
    close("swiglu", &found, &expected, rounding(case.element) + 4e-6, 1.0)
}

/// Exactly; and what is not a number stays so in every kernel that rounds.
fn widen(case: Case) -> Outcome {
    let x = case.values(10, 9.0);
    let lab = case.lab()?;
    let run = || {
        let (out, from) = (lab.put(&vec![0; 8 * x.len()])?, lab.put(&to_bytes(case.element, &x))?);
        // SAFETY: as above.
        unsafe { lab.kernels.widen(&lab.stream, case.shape(), out, from)? };
        lab.get(out, 8 * x.len())
    };
    let bytes = run().map_err(text)?;
    let found: Vec<f64> = bytes.as_chunks().0.iter().map(|&x| f64::from_ne_bytes(x)).collect();
    close("widen", &found, &x, 0.0, 0.0)?;
    let (mut x, bias) = (x, vec![0.0; case.width]);
    x[0] = f64::NAN;
    let found = lab.run(case.element, &[&x, &bias], |kernels, stream, at| {
        // SAFETY: as above.
        unsafe { kernels.activate(stream, case.shape(), Activation::Relu, at[0], at[1]) }
    })?;
    ensure(found[0].is_nan(), || format!("what is not a number became {}", found[0]))
}

/// Batches that are uploaded while the last one is worked on, at the latest and at random moments: all of them come out as they went in.
fn uploads_overlap(schedule: Schedule) -> Outcome {
    const COUNT: usize = 64;
    let lab = Lab::new(HostOptions { schedule, ..HostOptions::default() }, false)?;
    let cuda: &Cuda<HostDriver> = lab.kernels.cuda();
    let run = || -> Result<Vec<Vec<u8>>, DriverError> {
        let targets = [lab.put(&[0; 4 * COUNT])?, lab.put(&[0; 4 * COUNT])?];
        let mut uploads = Uploads::new(cuda, 4 * COUNT)?;
        uploads.used(&lab.stream)?;
        uploads.used(&lab.stream)?;
        let shape = Rows { element: Element::F32, rows: 1, width: COUNT };
        let mut results = Vec::new();
        for batch in 0..7 {
            let values: Vec<f64> = (0..COUNT).map(|i| (100 * batch + i) as f64).collect();
            let target = targets[uploads.turn()];
            let bytes = to_bytes(Element::F32, &values);
            let out = cuda.driver().allocate(&lab.stream, 8 * COUNT)?;
            // SAFETY: the targets are that long, and `used` is said of each.
            unsafe {
                uploads.upload(&lab.stream, target, bytes.len(), |block| block.copy_from_slice(&bytes))?;
                lab.kernels.widen(&lab.stream, shape, out, target)?;
            }
            uploads.used(&lab.stream)?;
            results.push(out);
        }
        results.into_iter().map(|out| lab.get(out, 8 * COUNT)).collect()
    };
    for (batch, bytes) in run().map_err(text)?.iter().enumerate() {
        for (i, &x) in bytes.as_chunks().0.iter().enumerate() {
            let (found, expected) = (f64::from_ne_bytes(x), (100 * batch + i) as f64);
            ensure(found == expected, || format!("batch {batch}: {found}, expected {expected}"))?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut trials = Vec::new();
    // Rows of one warp and of many blocks; widths by fours and not, beyond what a warp holds, and of ViT-B.
    let shapes = [(9, 197), (3, 4), (2, 1024), (1, 1025), (5, 768), (1, 1540), (300, 20), (1, 1)];
    for (index, (rows, width)) in shapes.into_iter().enumerate() {
        for (element, simple) in
            [Element::F32, Element::Bf16].into_iter().flat_map(|e| [(e, false), (e, true)])
        {
            let lanes = [Lanes::Forward, Lanes::Reverse, Lanes::Random(8)][index % 3];
            let case = Case { element, rows, width, simple, lanes };
            let kind = if simple { "simple" } else { "fused" };
            let operations: [Operation; 5] = [
                ("softmax", softmax),
                ("layer_norm", layer_norm),
                ("pointwise", pointwise),
                ("swiglu", swiglu),
                ("widen", widen),
            ];
            for (name, body) in operations {
                let name = format!("{kind}/{name}/{rows}x{width}/{element:?}/{lanes:?}");
                trials.push(Trial::test(name, move || body(case).map_err(Into::into)));
            }
        }
    }
    for schedule in [Schedule::Latest, Schedule::Random(1), Schedule::Random(2), Schedule::Random(3)] {
        let body = move || uploads_overlap(schedule).map_err(Into::into);
        trials.push(Trial::test(format!("uploads overlap/{schedule:?}"), body));
    }
    support::run(trials)
}
