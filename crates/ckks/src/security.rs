//! How large a modulus may be at a ring degree.

/// The policy a parameter set is checked against. All bounds hold for uniform ternary secrets and an error of standard
/// deviation 3.19 or more, against classical attacks.
///
/// ```
/// use arras_ckks::Security;
///
/// // Bits of Q and P together.
/// assert_eq!(Security::Classical128.limit(8192), Some(214));
/// assert_eq!(Security::Classical256.limit(8192), Some(114));
/// // No modulus is secure at this degree.
/// assert_eq!(Security::Classical128.limit(1024), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Security {
    /// 128 bits, Bossuat et al., *Security Guidelines for Implementing Homomorphic Encryption*, ePrint 2024/463,
    /// table 5.2.
    Classical128 = 0,
    /// 192 bits, the same table.
    Classical192 = 1,
    /// 256 bits, the same table.
    Classical256 = 2,
    /// 128 bits by the 2018 Homomorphic Encryption Standard, which the 2024 table tightens by a few bits: for contexts
    /// that other libraries made.
    Standard2018 = 3,
    /// Not checked. Only [`Params::insecure`](crate::Params::insecure) makes such parameters.
    Unchecked = 4,
}

impl Security {
    /// The largest integer log2(QP) allowed at `degree`; `None` if the policy says nothing about that degree, so that no
    /// modulus is allowed. Special primes count.
    pub fn limit(self, degree: usize) -> Option<u32> {
        // Columns for degrees 2^11 to 2^17.
        let row: [u32; 7] = match self {
            Security::Classical128 => [53, 106, 214, 430, 868, 1747, 3523],
            Security::Classical192 => [36, 73, 147, 297, 597, 1199, 2411],
            Security::Classical256 => [27, 56, 114, 230, 462, 929, 1866],
            Security::Standard2018 => [54, 109, 218, 438, 881, 0, 0],
            Security::Unchecked => return Some(u32::MAX),
        };
        let column = degree.checked_ilog2()?.checked_sub(11)?;
        row.get(column as usize).copied().filter(|&limit| limit > 0 && degree.is_power_of_two())
    }

    /// A name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Security::Classical128 => "128-bit classical, ePrint 2024/463",
            Security::Classical192 => "192-bit classical, ePrint 2024/463",
            Security::Classical256 => "256-bit classical, ePrint 2024/463",
            Security::Standard2018 => "128-bit, Homomorphic Encryption Standard 2018",
            Security::Unchecked => "unchecked",
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        use Security::*;
        [Classical128, Classical192, Classical256, Standard2018, Unchecked].get(usize::from(number)).copied()
    }
}
