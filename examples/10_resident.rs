//! 10. From an image to an encrypted query on a GPU, without the token in between ever being on the host.
//!
//! The transformer and the encryption share a device. Images go up; the CLS tokens stay there, are checked against the preset's bounds,
//! rounded, encrypted with noise that is drawn there, and overwritten. What comes back is the query. The server, its head and the reply
//! are those of example 3.
//!
//! Needs a GPU to run: `. scripts/cuda-env && cargo run --release --features cuda-vit --example 10_resident`

use std::error::Error;

use arras::ckks::Context;
use arras::heads::layout::Groups;
use arras::heads::{Layout, Preset};
use arras::secret::{Cipher, SecretKey};
use arras::vit::{Architecture, Device, Gpu, Precision, Vit};

const IMAGES: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arras::Device::Cuda(cuda) = arras::Device::cuda(0)? else { return Ok(()) };
    let gpu = Gpu::new(&cuda, 0, Precision::F32)?;
    let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cuda(gpu))?;

    let preset = Preset::named(Preset::DEFAULT)?;
    let context = Context::new(cuda, preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;

    let image = |i: usize| -> Vec<f32> {
        (0..vit.preprocessor().len()).map(|at| ((at * 37 + i) % 255) as f32 / 127.5 - 1.0).collect()
    };
    let images: Vec<Vec<f32>> = (0..IMAGES).map(image).collect();
    let tokens = vit.embed_resident(context.queue(), &images)?;
    let groups = Groups::new(Layout::Dot, preset.params.degree(), vit.config().width(), IMAGES)?;
    let encoded = cipher.encode_resident(groups, tokens)?;
    let query = cipher.encrypt_resident(&encoded, None)?.to_bytes();
    println!("{IMAGES} images, {} bytes of query, no token on the host", query.len());
    Ok(())
}
