//! Milliseconds per image of the forward pass: `RAYON_NUM_THREADS=1 cargo run --release -p arras-vit --example breakdown`.

use std::time::Instant;

use arras_vit::config::{Activation, Trunk};
use arras_vit::{Architecture, Device, Result, Size, Vit};

fn main() -> Result<()> {
    let base = Architecture::Vit(
        Trunk {
            image: Size::square(224),
            patch: Size::square(16),
            width: 768,
            depth: 12,
            heads: 12,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
        },
        3072,
    );
    for (name, architecture, batches) in [
        ("tiny", Architecture::tiny(), &[1, 8, 32][..]),
        ("paper", Architecture::paper(), &[1, 8]),
        ("ViT-B/16 224", base, &[1, 8]),
    ] {
        let vit = Vit::random(&architecture, 1, &Device::Cpu)?;
        for &batch in batches {
            let pixels: Vec<Vec<f32>> = (0..batch)
                .map(|image| {
                    (0..vit.preprocessor().len())
                        .map(|i| ((i * 37 + image) % 255) as f32 / 127.5 - 1.0)
                        .collect()
                })
                .collect();
            vit.embed_batch(&pixels)?;
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let start = Instant::now();
                vit.embed_batch(&pixels)?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!("{name}: batch {batch}: {:.1} ms/image, best of 5", 1e3 * best / batch as f64);
        }
    }
    Ok(())
}
