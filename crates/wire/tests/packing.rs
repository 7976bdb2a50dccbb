//! The word-at-a-time packing against its definition, one bit at a time.

use arras_wire::Problem;
use arras_wire::bits::{pack, pack_below, packed_len, unpack, unpack_below, width_of};
use arras_wire::corpus::SplitMix64;

/// The definition in `docs/formats.md`.
fn naive_pack(values: &[u64], width: u32) -> Vec<u8> {
    let mut bytes = vec![0; (values.len() * width as usize).div_ceil(8)];
    for (index, value) in values.iter().enumerate() {
        for bit in 0..width as usize {
            let at = index * width as usize + bit;
            bytes[at / 8] |= (((value >> bit) & 1) as u8) << (at % 8);
        }
    }
    bytes
}

fn values(count: usize, width: u32, rng: &mut SplitMix64) -> Vec<u64> {
    let most = u64::MAX >> (64 - width);
    (0..count)
        .map(|_| match rng.below(6) {
            0 => 0,
            1 => most,
            _ => rng.next_u64() & most,
        })
        .collect()
}

#[test]
fn every_width_and_length_agrees_with_the_definition() {
    let mut rng = SplitMix64::new(1);
    for width in 1..=64 {
        for count in (0..40).chain([255, 256, 1000]) {
            let row = values(count, width, &mut rng);
            let mut packed = vec![0xaa; 3];
            pack(&row, width, &mut packed).unwrap();
            assert_eq!(packed[..3], [0xaa; 3], "what was there before stays");
            assert_eq!(packed[3..], naive_pack(&row, width), "width {width}, {count} values");
            assert_eq!(packed.len() - 3, packed_len(count, width));

            let mut unpacked = vec![u64::MAX; count];
            unpack(&packed[3..], width, &mut unpacked).unwrap();
            assert_eq!(unpacked, row, "width {width}, {count} values");
        }
    }
}

#[test]
fn each_padding_bit_is_seen() {
    for width in 1..=64 {
        for count in 1..20 {
            let mut row = Vec::new();
            pack(&vec![0; count], width, &mut row).unwrap();
            let used = count * width as usize;
            for bit in used..8 * row.len() {
                let mut other = row.clone();
                other[bit / 8] |= 1 << (bit % 8);
                let found = unpack(&other, width, &mut vec![0; count]);
                assert_eq!(found, Err(Problem::Padding), "width {width}, {count} values, bit {bit}");
            }
        }
    }
}

#[test]
fn a_value_that_does_not_fit_is_named_and_nothing_is_written() {
    let mut out = vec![5];
    let found = pack(&[1, 2, 8, 9], 3, &mut out);
    assert_eq!(found, Err(Problem::TooWide { index: 2, value: 8, width: 3 }));
    let found = pack_below(&[1, 96, 97], 97, &mut out);
    assert_eq!(found, Err(Problem::Residue { index: 2, value: 97, modulus: 97 }));
    assert_eq!(out, [5]);
}

#[test]
fn a_residue_at_or_above_its_modulus_is_named() {
    let q = (1 << 46) - (1 << 20) + 1;
    for (value, fits) in [(q - 1, true), (q, false), ((1 << 46) - 1, false)] {
        let mut row = Vec::new();
        pack(&[0, 1, value, 2], 46, &mut row).unwrap();
        let found = unpack_below(&row, q, &mut [0; 4]);
        let expected = if fits { Ok(()) } else { Err(Problem::Residue { index: 2, value, modulus: q }) };
        assert_eq!(found, expected);
    }
}

#[test]
fn widths_lengths_and_moduli_that_make_no_sense_are_refused() {
    for width in [0, 65, u32::MAX] {
        assert_eq!(pack(&[0], width, &mut Vec::new()), Err(Problem::Width { width, modulus: 0 }));
        assert_eq!(unpack(&[0], width, &mut [0]), Err(Problem::Width { width, modulus: 0 }));
    }
    for modulus in [0, 1] {
        assert_eq!(unpack_below(&[0], modulus, &mut [0]), Err(Problem::Width { width: 1, modulus }));
    }
    for found in [0, 12, 14] {
        let expected = Err(Problem::Length { expected: 13, found });
        assert_eq!(unpack(&vec![0; found], 50, &mut [0; 2]), expected);
    }
    assert_eq!(packed_len(usize::MAX, 64), usize::MAX);
}

#[test]
fn the_width_of_a_modulus_is_that_of_its_largest_residue() {
    for (modulus, width) in [(2, 1), (3, 2), (4, 2), (5, 3), (97, 7), (1 << 50, 50), ((1 << 50) + 1, 51)] {
        assert_eq!(width_of(modulus), width, "modulus {modulus}");
    }
    assert_eq!(width_of(u64::MAX), 64);
}

#[test]
fn a_fifty_bit_residue_costs_fifty_bits() {
    assert_eq!(packed_len(768, 50), 4800);
}
