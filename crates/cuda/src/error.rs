//! What a driver can refuse, as values to act upon.

/// Why a call to a driver failed.
///
/// ```
/// use arras_cuda::DriverError;
///
/// let error = DriverError::DriverTooOld { found: 12_040, required: 13_000 };
/// assert_eq!(error.to_string(), "CUDA driver 12.4 is too old, 13.0 is needed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// There is no driver on this machine.
    #[error("no CUDA driver: {reason}")]
    NoDriver {
        /// What the dynamic linker said.
        reason: String,
    },
    /// The driver cannot run these kernels.
    #[error("CUDA driver {} is too old, {} is needed", version(*.found), version(*.required))]
    DriverTooOld {
        /// Its version, `1000 major + 10 minor`.
        found: u32,
        /// The oldest that will do.
        required: u32,
    },
    /// There is no such device.
    #[error("no CUDA device {ordinal}, there are {count}")]
    NoDevice {
        /// The device that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// No image runs on this device.
    #[error("no kernel image {image} for compute capability {}.{}", found.0, found.1)]
    WrongArchitecture {
        /// The device's compute capability.
        found: (u32, u32),
        /// The image.
        image: String,
    },
    /// The images were compiled from other structures than this crate passes to them.
    #[error("kernel images of ABI {found:#018x}, expected {expected:#018x}")]
    Abi {
        /// That of the images.
        found: u64,
        /// That of this crate.
        expected: u64,
    },
    /// An image lacks an entry point.
    #[error("kernel {entry} is not in image {image}")]
    MissingKernel {
        /// The entry point.
        entry: String,
        /// The image.
        image: String,
    },
    /// There is not enough memory.
    #[error("{place}: out of device memory, {requested} bytes were asked for")]
    OutOfMemory {
        /// The call.
        place: String,
        /// How many bytes it needed.
        requested: u64,
    },
    /// The device is gone or its context is beyond repair: nothing but a new process, or at least a new context, helps.
    #[error("{place}: device lost ({message})")]
    DeviceLost {
        /// The call that noticed.
        place: String,
        /// The driver's words.
        message: String,
    },
    /// Anything else.
    #[error("{place}: {message} (code {code})")]
    Failed {
        /// The call that reported it; what went wrong may have been queued earlier.
        place: String,
        /// The driver's number for it.
        code: u32,
        /// The driver's words.
        message: String,
    },
}

fn version(number: u32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

impl DriverError {
    /// The error of the contract, with the operation of the contract in front.
    pub fn during(self, operation: &str) -> arras_rns::Error {
        arras_rns::Error::Device { place: operation.to_owned(), message: self.to_string() }
    }
}
