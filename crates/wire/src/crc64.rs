//! CRC-64/XZ: polynomial 0x42f0e1eba9ea3693 (ECMA-182), reflected, initial and final value all ones.
//!
//! It finds every error burst of up to 64 bits. It is no protection against a person who wants to
//! change a file: anyone can recompute it.

/// The polynomial with its bits reversed, as the reflected algorithm uses it.
const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

/// `TABLES[k][b]`: the remainder of byte `b` followed by `k` zero bytes ("slicing by 8").
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            remainder = (remainder >> 1) ^ (POLYNOMIAL * (remainder & 1));
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let shorter = tables[k - 1][byte];
            tables[k][byte] = (shorter >> 8) ^ tables[0][(shorter & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// The CRC-64/XZ of `bytes`.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    let mut state = u64::MAX;
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = (state ^ u64::from_le_bytes(*word)).to_le_bytes();
        state = 0;
        for (byte, table) in mixed.iter().zip(TABLES.iter().rev()) {
            state ^= table[usize::from(*byte)];
        }
    }
    for byte in tail {
        state = (state >> 8) ^ TABLES[0][usize::from(state as u8 ^ byte)];
    }
    !state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one bit at a time.
    fn naive(bytes: &[u8]) -> u64 {
        let mut state = u64::MAX;
        for byte in bytes {
            state ^= u64::from(*byte);
            for _ in 0..8 {
                state = (state >> 1) ^ if state & 1 == 1 { POLYNOMIAL } else { 0 };
            }
        }
        !state
    }

    #[test]
    fn agrees_with_the_catalogue_and_with_the_definition() {
        // The check value of CRC-64/XZ in the CRC catalogues is taken over the digits 1 to 9.
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        let bytes: Vec<u8> = (0..100u32).map(|i| ((i * i * 37) >> 2) as u8).collect();
        for end in 0..bytes.len() {
            assert_eq!(crc64(&bytes[..end]), naive(&bytes[..end]), "{end} bytes");
        }
    }
}
