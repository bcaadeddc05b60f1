//! Shamir's secret sharing over GF(2^8) with the polynomial of AES, as Vault and SOPS write it: each share is the bytes of
//! a point, then its x-coordinate.

use zeroize::Zeroizing;

/// Most shares.
const SHARES_MAX: usize = 255;

/// Puts shares together. `None` for shares of different lengths, of one point, or without points. Too few shares give
/// something, and not the secret.
pub(super) fn combine(shares: &[Zeroizing<Vec<u8>>]) -> Option<Zeroizing<Vec<u8>>> {
    let length = shares.first()?.len().checked_sub(1).filter(|length| *length > 0)?;
    if shares.len() < 2 || shares.len() > SHARES_MAX || shares.iter().any(|share| share.len() != length + 1) {
        return None;
    }
    let xs: Vec<u8> = shares.iter().filter_map(|share| share.last().copied()).collect();
    if xs.contains(&0) || (1..xs.len()).any(|at| xs[..at].contains(&xs[at])) {
        return None;
    }
    let mut secret = Zeroizing::new(vec![0; length]);
    for (share, x) in shares.iter().zip(&xs) {
        // The weight of this point at x = 0.
        let weight = xs
            .iter()
            .filter(|other| *other != x)
            .fold(1, |weight, other| multiply(weight, multiply(*other, inverse(x ^ other))));
        for (byte, y) in secret.iter_mut().zip(share.iter()) {
            *byte ^= multiply(weight, *y);
        }
    }
    Some(secret)
}

fn multiply(mut one: u8, mut other: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        // Without branches on what may be secret.
        product ^= one & 0u8.wrapping_sub(other & 1);
        let carry = 0u8.wrapping_sub(one >> 7);
        one = (one << 1) ^ (0x1b & carry);
        other >>= 1;
    }
    product
}

/// The power 254, which is the inverse.
fn inverse(value: u8) -> u8 {
    let mut result = 1;
    let mut power = value;
    for bit in 0..8 {
        if 254 >> bit & 1 == 1 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_but_zero_has_its_inverse() {
        for value in 1..=255 {
            assert_eq!(multiply(value, inverse(value)), 1);
        }
    }

    #[test]
    fn shares_that_make_no_sense_are_refused() {
        let share = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        for bad in [
            vec![],
            vec![share(&[1, 1])],
            vec![share(&[1, 1]), share(&[1, 1])],
            vec![share(&[1, 0]), share(&[1, 1])],
            vec![share(&[1]), share(&[2])],
            vec![share(&[1, 1]), share(&[1, 1, 2])],
        ] {
            assert!(combine(&bad).is_none());
        }
    }
}
