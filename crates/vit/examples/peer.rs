//! The side of arras in `scripts/vit/compare.py`: does one case when told to, and says how long it took.
//!
//! Reads commands from standard input, a line each, and answers each with a line of JSON:
//!
//! ```text
//! load DIR FILE   a Hugging Face directory and pixels, f32 little endian, [B][3][H][W]
//! time CASE       does it once; nanoseconds
//! check CASE      what the last execution of `cls` or `full` gave: CLS tokens, row by row
//! ```
//!
//! Cases: `cls`, the CLS tokens of the batch; `full`, all tokens of the last layer; and the products of matrices that the latter
//! consists of, with their shapes, once each: `patch`, `qkv`, `scores`, `mix`, `projection`, `up`, `down`. Set
//! `RAYON_NUM_THREADS=1` to keep it to one thread.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use arras_vit::{Device, Vit};
use candle_core::Tensor;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let load = lines.next().ok_or("no command")??;
    let mut words = load.split(' ');
    let (Some("load"), Some(folder), Some(file)) = (words.next(), words.next(), words.next()) else {
        return Err("the first command has to be: load DIR FILE".into());
    };
    let mut lab = Lab::new(Path::new(folder), Path::new(file))?;
    answer(&json!({"batch": lab.batch, "products": PRODUCTS}))?;
    for line in lines {
        let line = line?;
        match line.split_once(' ') {
            Some(("time", case)) => {
                let began = Instant::now();
                lab.run(case)?;
                answer(&json!(began.elapsed().as_nanos() as u64))?;
            }
            Some(("check", _)) => answer(&json!(lab.tokens))?,
            _ => return Err(format!("unknown command {line:?}").into()),
        }
    }
    Ok(())
}

fn answer(reply: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{reply}")?;
    Ok(out.flush()?)
}

const PRODUCTS: [&str; 7] = ["patch", "qkv", "scores", "mix", "projection", "up", "down"];

struct Lab {
    vit: Vit,
    batch: usize,
    pixels: Tensor,
    /// Operands of each of [`PRODUCTS`].
    operands: Vec<(Tensor, Tensor)>,
    tokens: Vec<Vec<f32>>,
}

impl Lab {
    fn new(folder: &Path, file: &Path) -> Result<Self> {
        let vit = Vit::load(folder, &Device::Cpu)?;
        let size = vit.preprocessor().output();
        let values: Vec<f32> = std::fs::read(file)?
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let batch = values.len() / vit.preprocessor().len();
        let device = vit.candle_device();
        let pixels = Tensor::from_vec(values, (batch, 3, size.height, size.width), device)?;
        let operands = operands(&vit, batch)?;
        Ok(Self { vit, batch, pixels, operands, tokens: Vec::new() })
    }

    fn run(&mut self, case: &str) -> Result<()> {
        match case {
            "cls" => self.tokens = self.vit.cls(&self.pixels)?.to_vec2()?,
            "full" => {
                let states = self.vit.last_hidden_state(&self.pixels)?;
                self.tokens = states.narrow(1, 0, 1)?.squeeze(1)?.to_vec2()?;
            }
            _ => {
                let at = PRODUCTS.iter().position(|&product| product == case).ok_or("no such case")?;
                let (a, b) = &self.operands[at];
                std::hint::black_box(a.matmul(b)?);
            }
        }
        Ok(())
    }
}

/// As the encoder multiplies them: weights as transposed views, attention image by image and head by head.
fn operands(vit: &Vit, batch: usize) -> Result<Vec<(Tensor, Tensor)>> {
    let trunk = vit.config().trunk();
    let grid = vit.config().grid(vit.preprocessor().output());
    let (d, heads, tokens) = (trunk.width, trunk.heads, grid.area() + 1);
    let rows = batch * tokens;
    let hidden = 4 * d;
    let random = |shape: &[usize]| Tensor::rand(-1f32, 1f32, shape, vit.candle_device());
    let linear = |rows: usize, input: usize, out: usize| -> Result<_> {
        Ok((random(&[rows, input])?, random(&[out, input])?.t()?))
    };
    let split = |x: Tensor| -> Result<Tensor> {
        Ok(x.reshape((1, tokens, 3, heads, d / heads))?.narrow(2, 0, 1)?.squeeze(2)?.transpose(1, 2)?)
    };
    let (q, k, v) = (
        split(random(&[tokens, 3 * d])?)?,
        split(random(&[tokens, 3 * d])?)?,
        split(random(&[tokens, 3 * d])?)?,
    );
    Ok(vec![
        linear(batch * grid.area(), 3 * trunk.patch.area(), d)?,
        linear(rows, d, 3 * d)?,
        (q, k.t()?),
        (random(&[1, heads, tokens, tokens])?, v),
        linear(rows, d, d)?,
        linear(rows, d, hidden)?,
        linear(rows, hidden, d)?,
    ])
}
