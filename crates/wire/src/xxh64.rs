//! XXH64 with seed 0 (the 64-bit xxHash, specified at github.com/Cyan4973/xxHash), several bytes a cycle.
//!
//! Each step is a bijection of the eight bytes it takes in, so damage within one of them always shows;
//! any other passes with probability near 2^-64. It is no protection against a person who wants to
//! change a file: anyone can recompute it.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// The XXH64 of `bytes` with seed 0.
pub(crate) fn xxh64(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let (stripes, words) = words.as_chunks::<4>();
    let mut hash = if stripes.is_empty() { P5 } else { merged(stripes) };
    hash = hash.wrapping_add(bytes.len() as u64);
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (half, tail) = tail.as_chunks::<4>();
    for word in half {
        hash ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for byte in tail {
        hash ^= u64::from(*byte).wrapping_mul(P5);
        hash = hash.rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// Four independent lanes over the 32-byte stripes, merged into one word.
fn merged(stripes: &[[[u8; 8]; 4]]) -> u64 {
    let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let [a, b, c, d] = lanes;
    let sum = [a.rotate_left(1), b.rotate_left(7), c.rotate_left(12), d.rotate_left(18)];
    let start = sum.into_iter().fold(0, u64::wrapping_add);
    lanes.iter().fold(start, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4))
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

#[cfg(test)]
mod tests {
    use super::xxh64;

    /// Computed with the reference implementation; the bytes count from 0.
    #[test]
    fn agrees_with_the_reference() {
        let bytes: Vec<u8> = (0..=255).collect();
        for (length, expected) in VALUES {
            assert_eq!(xxh64(&bytes[..length]), expected, "{length} bytes");
        }
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    const VALUES: [(usize, u64); 16] = [
        (0, 0xef46_db37_51d8_e999),
        (1, 0xe934_a84a_db05_2768),
        (3, 0xe5c7_bb45_33bc_65dd),
        (4, 0xffce_d860_4453_cc1e),
        (5, 0xdd02_7438_6e26_030c),
        (8, 0x884a_1736_14b8_1b8d),
        (15, 0xa948_f5f0_f6ab_ac2d),
        (31, 0xc346_d2b5_9b4d_8ee1),
        (32, 0xcbf5_9c51_16ff_32b4),
        (33, 0x0c53_5d1a_cafb_8ead),
        (44, 0xa733_d156_db2b_b292),
        (63, 0xe26a_a9e2_a95f_8e4f),
        (64, 0xf7c6_7301_db67_13f0),
        (100, 0x6ac1_e580_3216_6597),
        (255, 0x0f7d_9750_7caa_d693),
        (256, 0x1fac_be84_06cd_904b),
    ];
}
