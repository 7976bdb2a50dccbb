//! What the fuzz targets share: each is the `fuzz_one` of one crate.

pub use arras_wire::corpus::reseal;
pub use libfuzzer_sys;

/// The body of a target: calls `$fuzz_one` with the fuzzer's bytes, and with the same bytes after their
/// length and check have been made right, so that the decoders behind the container are reached.
#[macro_export]
macro_rules! target {
    ($fuzz_one:path) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $fuzz_one(data);
            let mut sealed = data.to_vec();
            if $crate::reseal(&mut sealed) {
                $fuzz_one(&sealed);
            }
        });
    };
}
