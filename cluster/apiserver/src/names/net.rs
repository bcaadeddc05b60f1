//! Rules for IP addresses and networks, with upstream's texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address as old fields take it: numbers may start with zeros. With what is shown for it.
fn sloppy(text: &str) -> Option<IpAddr> {
    let without_zeros = |text: &str| -> Option<Ipv4Addr> {
        let parts: Vec<&str> = text.split('.').collect();
        let number = |part: &&str| {
            let fine = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            fine.then(|| part.trim_start_matches('0'))
                .map(|part| if part.is_empty() { "0" } else { part })?
                .parse::<u8>()
                .ok()
        };
        let numbers: Option<Vec<u8>> = parts.iter().map(number).collect();
        <[u8; 4]>::try_from(numbers?).ok().map(Ipv4Addr::from)
    };
    if let Some((head, tail)) = text.rsplit_once(':') {
        let tail = if tail.contains('.') { without_zeros(tail)?.to_string() } else { tail.to_owned() };
        return format!("{head}:{tail}").parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    without_zeros(text).map(IpAddr::V4)
}

/// An address as Go prints it: one that stands for an IPv4 address is one.
fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// What is wrong with an address in a new field.
pub(crate) fn ip(text: &str) -> Vec<String> {
    let Some(address) = sloppy(text) else {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()];
    };
    let mut wrong = Vec::new();
    match text.parse::<IpAddr>() {
        Err(_) => wrong.push("must not have leading 0s".into()),
        Ok(strict) if is_mapped(strict) => wrong.push("must not be an IPv4-mapped IPv6 address".into()),
        Ok(_) => {}
    }
    if wrong.is_empty() && shown(address) != text {
        wrong.push(format!("must be in canonical form (\"{}\")", shown(address)));
    }
    wrong
}

/// What an address in an old field is warned of.
pub(crate) fn ip_warnings(path: &str, text: &str) -> Vec<String> {
    let Some(address) = sloppy(text) else { return Vec::new() };
    match text.parse::<IpAddr>() {
        Ok(strict) if !is_mapped(strict) => {
            let canonical = strict.to_string();
            if canonical == text || strict.is_ipv4() {
                return Vec::new();
            }
            vec![format!(
                "{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{canonical}\")"
            )]
        }
        _ => {
            vec![format!("{path}: non-standard IP address \"{text}\" is invalid: use \"{}\"", shown(address))]
        }
    }
}

/// A network: its address as given, and its prefix.
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn sloppy(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let fine = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let trimmed = bits.trim_start_matches('0');
        let bits: u8 = if fine && trimmed.is_empty() { 0 } else { trimmed.parse().ok().filter(|_| fine)? };
        let address = sloppy(address)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        (bits <= max).then_some(Network { address, bits })
    }

    fn strict(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let network = Network { address: address.parse().ok()?, bits: bits.parse().ok()? };
        (network.bits.to_string() == bits).then_some(network)
    }

    /// The address without what is beyond the prefix.
    fn masked(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        }
    }

    /// The prefix as it counts for the address that is shown.
    fn shown_bits(&self) -> u8 {
        if is_mapped(self.address) { self.bits.saturating_sub(96) } else { self.bits }
    }

    fn shown(&self) -> String {
        format!("{}/{}", shown(self.masked()), self.shown_bits())
    }
}

/// What is wrong with a network in a new field.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let Some(network) = Network::sloppy(text) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()];
    };
    let detail = match Network::strict(text) {
        None => "must not have leading 0s in IP or prefix length".to_owned(),
        Some(strict) if is_mapped(strict.address) => "must not have an IPv4-mapped IPv6 address".to_owned(),
        Some(strict) if strict.address != strict.masked() => {
            "must not have bits set beyond the prefix length".to_owned()
        }
        Some(_) if network.shown() != text => format!("must be in canonical form (\"{}\")", network.shown()),
        Some(_) => return Vec::new(),
    };
    vec![detail]
}

/// What a network in an old field is warned of.
pub(crate) fn cidr_warnings(path: &str, text: &str) -> Vec<String> {
    let Some(network) = Network::sloppy(text) else { return Vec::new() };
    let mut warnings = Vec::new();
    let canonical = network.shown();
    if network.address != network.masked() {
        let whole = if network.address.to_canonical().is_ipv4() { 32 } else { 128 };
        let single = format!("{}/{whole}", shown(network.address));
        warnings.push(format!(
            "{path}: CIDR value \"{text}\" is ambiguous in this context (should be \"{canonical}\" or \"{single}\"?)"
        ));
    }
    let strict = Network::strict(text);
    match &strict {
        Some(strict) if !is_mapped(strict.address) => {
            let standard = format!("{}/{}", strict.address, strict.bits);
            if warnings.is_empty() && strict.address.is_ipv6() && standard != text {
                warnings.push(format!(
                    "{path}: IPv6 CIDR value \"{text}\" should be in RFC 5952 canonical format (\"{standard}\")"
                ));
            }
        }
        _ => warnings
            .push(format!("{path}: non-standard CIDR value \"{text}\" is invalid: use \"{canonical}\"")),
    }
    warnings
}

/// What is wrong with the address of an interface, which keeps the bits beyond its prefix.
#[cfg(test)]
pub(crate) fn interface(text: &str) -> Vec<String> {
    let Some(network) = Network::sloppy(text) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()];
    };
    let bits = match network.bits {
        bits if network.address.to_canonical().is_ipv4() && bits > 32 => bits - 96,
        bits => bits,
    };
    let canonical = format!("{}/{bits}", shown(network.address));
    if canonical == text { Vec::new() } else { vec![format!("must be in canonical form (\"{canonical}\")")] }
}
