//! Secret keys, in memory and on disk.

use arras_ckks::Params;
use arras_heads::query::KeyId;
use arras_wire::frame::{self, Kind};
use arras_wire::{Reader, Writer};
use zeroize::Zeroizing;

use crate::Result;
use arras_ckks::sampling::Sampler;

/// A uniform ternary secret. Overwritten when dropped; has no `Debug` output beyond its parameters.
///
/// ```
/// use arras_heads::Preset;
/// use arras_secret::SecretKey;
///
/// let params = &Preset::named("linear")?.params;
/// let key = SecretKey::generate(params)?;
/// let bytes = key.to_bytes(); // wiped when dropped
/// assert_eq!(SecretKey::from_bytes(&bytes, params)?.id(), key.id());
///
/// let others = &Preset::named("mlp")?.params;
/// let refused = SecretKey::from_bytes(&bytes, others).unwrap_err();
/// assert!(refused.to_string().starts_with("made for other parameters"));
/// # Ok::<(), arras_secret::Error>(())
/// ```
pub struct SecretKey {
    params: Params,
    id: KeyId,
    coefficients: Zeroizing<Vec<i8>>,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(parameters {})", self.params.fingerprint())
    }
}

impl SecretKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`arras_ckks::Error::Randomness`].
    pub fn generate(params: &Params) -> Result<Self> {
        Ok(Self::sample(params, &mut Sampler::from_os()?))
    }

    pub(crate) fn sample(params: &Params, rng: &mut Sampler) -> Self {
        let id = rng.bytes();
        let mut coefficients = Zeroizing::new(vec![0; params.degree()]);
        rng.ternary(&mut coefficients, |x| x);
        Self { params: params.clone(), id, coefficients }
    }

    /// The parameters it belongs to.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// A public number that tells keys apart; it says nothing about the secret.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn coefficients(&self) -> &[i8] {
        &self.coefficients
    }

    /// The key as the contents of a file: its id and two bits per coefficient. Write it with mode 0600.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut payload = Writer::with_capacity(self.id.len() + self.coefficients.len() / 4);
        payload.array(&self.id);
        for four in self.coefficients.chunks(4) {
            let byte = four.iter().rev().fold(0, |byte, &coefficient| byte << 2 | (coefficient + 1) as u8);
            payload.u8(byte);
        }
        let payload = Zeroizing::new(payload.into_bytes());
        Zeroizing::new(frame::encode(Kind::SecretKey, &self.params.fingerprint(), &payload))
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`Error::Wire`](crate::Error::Wire) if the bytes are damaged or belong to other parameters.
    pub fn from_bytes(bytes: &[u8], params: &Params) -> Result<Self> {
        let frame = frame::decode(bytes, Kind::SecretKey, 1 << 20)?;
        frame.require(&params.fingerprint())?;
        let mut r = Reader::new(frame.payload);
        let id = r.array("key id")?;
        let mut coefficients = Zeroizing::new(Vec::with_capacity(params.degree()));
        for &byte in r.bytes("coefficients", params.degree() / 4)? {
            coefficients.extend((0..4).map(|i| (byte >> (2 * i) & 3) as i8 - 1));
        }
        r.finish()?;
        if coefficients.contains(&2) {
            return Err(arras_wire::Error::invalid("coefficients", "a value is not -1, 0 or 1").into());
        }
        Ok(Self { params: params.clone(), id, coefficients })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::SecretKey;
    use arras_ckks::sampling::Sampler;

    /// Pins the file and how coefficients are drawn; `ARRAS_BLESS=1` writes it if it is missing.
    #[test]
    fn the_format_has_not_changed() {
        let params = &arras_heads::Preset::named("linear").unwrap().params;
        let key = SecretKey::sample(params, &mut Sampler::for_tests(7));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        assert!(arras_wire::corpus::is_golden(&folder, "secret-key.bin", &key.to_bytes()).unwrap());
    }
}
