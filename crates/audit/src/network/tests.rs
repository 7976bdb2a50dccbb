use arras_vit::config::{Size, Trunk};
use arras_vit::preprocess::Steps;
use arras_vit::{Preprocessor, Vit};

use super::*;

fn small(dinov2: bool) -> Architecture {
    let trunk = Trunk {
        image: Size::square(24),
        patch: Size::square(8),
        width: 32,
        depth: 2,
        heads: 4,
        activation: Activation::Gelu,
        layer_norm_eps: 1e-12,
        qkv_bias: true,
    };
    if dinov2 { Architecture::Dinov2(trunk, FeedForward::SwiGlu(48)) } else { Architecture::Vit(trunk, 48) }
}

fn network(architecture: &Architecture) -> Network {
    let mut model = Tensors::random(architecture, 3).unwrap();
    // A Dinov2Model without a configuration takes 224 pixels.
    model.preprocessor = Preprocessor::new(Steps::for_family(&small(false)), architecture).unwrap();
    // Weights that are large enough for attention and activations to matter.
    for tensor in &mut model.tensors {
        tensor.values.iter_mut().for_each(|value| *value *= if value.abs() < 0.05 { 8.0 } else { 1.0 });
    }
    Network::new(model, 3, 5, &Device::Cpu).unwrap()
}

fn pixels(count: usize) -> Tensor {
    let values = Random::new("test pixels", &[]).normals(count * 3 * 24 * 24, 1.0);
    Tensor::from_vec(values, (count, 3, 24, 24), &Device::Cpu).unwrap()
}

#[test]
fn tokens_are_those_of_the_transformer_that_cannot_be_differentiated() -> Result<()> {
    let architecture = small(false);
    let model = Tensors::random(&architecture, 9)?;
    let vit = Vit::random(&architecture, 9, &arras_vit::Device::Cpu)?;
    let network = Network::new(model, 3, 5, &Device::Cpu)?;
    let pixels = pixels(3);
    let ours = network.cls(network.weights(), &pixels)?.flatten_all()?.to_vec1::<f32>()?;
    let theirs = vit.cls(&pixels)?.flatten_all()?.to_vec1::<f32>()?;
    let largest = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-4, "{largest}");
    Ok(())
}

/// In f64, where differences of the loss are sharp enough to notice a gradient that stops anywhere.
#[test]
fn gradients_are_slopes_of_the_loss() -> Result<()> {
    let architecture = small(false);
    let single = network(&architecture);
    let weights: Weights = single
        .weights()
        .iter()
        .map(|(name, weight)| Ok((name.clone(), weight.to_dtype(candle_core::DType::F64)?)))
        .collect::<Result<_>>()?;
    let network = Network { weights, ..single };
    let pixels = pixels(2).to_dtype(candle_core::DType::F64)?;
    let labels = Tensor::new(&[0_u32, 2], &Device::Cpu)?;
    let gradients = network.gradients(&pixels, &labels, &[])?;
    assert_eq!(gradients.len(), network.weights().len());
    for (name, gradient) in &gradients {
        let weight = &network.weights()[name];
        let mut random = Random::new("test direction", &[name.len() as u64]);
        let direction: Vec<f64> = (0..weight.elem_count()).map(|_| random.normal()).collect();
        let direction = Tensor::from_vec(direction, weight.dims(), &Device::Cpu)?;
        let at = |step: f64| -> Result<f64> {
            let mut weights = network.weights().clone();
            weights.insert(name.clone(), (weight + (&direction * step)?)?);
            Ok(network.loss(&weights, &pixels, &labels)?.to_scalar()?)
        };
        let slope = (at(1e-5)? - at(-1e-5)?) / 2e-5;
        let product: f64 = (gradient * &direction)?.sum_all()?.to_scalar()?;
        // candle's derivative of gelu has a constant of six digits.
        let bound = 1e-5 * (product.abs() + gradient.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt()) + 1e-9;
        assert!((slope - product).abs() < bound, "{name}: {slope} {product}");
    }
    Ok(())
}

#[test]
fn patches_are_what_the_convolution_sees() -> Result<()> {
    let pixels = pixels(2);
    let weight = Tensor::from_vec(Random::new("w", &[]).normals(5 * 192, 1.0), (5, 3, 8, 8), &Device::Cpu)?;
    let convolved = pixels.conv2d(&weight, 0, 8, 1, 1)?.flatten_from(2)?.transpose(1, 2)?;
    let product = matmul_t(&patches(&pixels, 8, 8)?, &weight.flatten_from(1)?)?;
    let largest = (convolved - product)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(largest < 1e-3, "{largest}");
    Ok(())
}

#[test]
fn swiglu_and_layer_scale_have_gradients() -> Result<()> {
    let network = network(&small(true));
    let labels = Tensor::new(&[1_u32], &Device::Cpu)?;
    let gradients = network.gradients(&pixels(1), &labels, &[])?;
    for (name, gradient) in gradients {
        assert!(gradient.abs()?.max_all()?.to_scalar::<f32>()?.is_finite(), "{name}");
    }
    Ok(())
}
