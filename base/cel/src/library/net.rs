//! IP addresses and networks.

use std::fmt;
use std::net::IpAddr;

use super::opaque::Opaque;
use super::{Evaluated, Function, no_overload};
use crate::error::{EvalError, fail};
use crate::value::Value;

/// A network: an address (host bits may be set) and the length of the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "ip" => ip,
        "isIP" => |args| text(args).map(|text| Value::Bool(parse_ip(text).is_ok())),
        "ip.isCanonical" => |args| {
            let text = text(args)?;
            Ok(Value::Bool(parse_ip(text)?.to_string() == text))
        },
        "cidr" => |args| parse_cidr(text(args)?).map(|cidr| Value::Opaque(Opaque::Cidr(cidr))),
        "isCIDR" => |args| text(args).map(|text| Value::Bool(parse_cidr(text).is_ok())),
        "family" => |args| address(args).map(|ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |args| address(args).map(|ip| Value::Bool(ip.is_unspecified())),
        "isLoopback" => |args| address(args).map(|ip| Value::Bool(ip.is_loopback())),
        "isLinkLocalMulticast" => |args| address(args).map(|ip| Value::Bool(link_local_multicast(ip))),
        "isLinkLocalUnicast" => |args| address(args).map(|ip| Value::Bool(link_local_unicast(ip))),
        "isGlobalUnicast" => |args| address(args).map(|ip| Value::Bool(global_unicast(ip))),
        "containsIP" => contains_ip,
        "containsCIDR" => contains_cidr,
        "masked" => |args| {
            let network = network(args)?;
            let address = mask(network.address, network.bits);
            Ok(Value::Opaque(Opaque::Cidr(Cidr { address, bits: network.bits })))
        },
        "prefixLength" => |args| network(args).map(|network| Value::Int(network.bits.into())),
        _ => return None,
    })
}

fn text(args: &[Value]) -> Result<&str, EvalError> {
    match args {
        [Value::String(text)] => Ok(text),
        _ => Err(EvalError::no_overload()),
    }
}

fn address(args: &[Value]) -> Result<IpAddr, EvalError> {
    match args {
        [Value::Opaque(Opaque::Ip(ip))] => Ok(*ip),
        _ => Err(EvalError::no_overload()),
    }
}

fn network(args: &[Value]) -> Result<Cidr, EvalError> {
    match args {
        [Value::Opaque(Opaque::Cidr(network))] => Ok(*network),
        _ => Err(EvalError::no_overload()),
    }
}

fn ip(args: &[Value]) -> Evaluated {
    match args {
        [Value::Opaque(Opaque::Cidr(network))] => Ok(Value::Opaque(Opaque::Ip(network.address))),
        _ => parse_ip(text(args)?).map(|ip| Value::Opaque(Opaque::Ip(ip))),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let ip = read_ip(text).map_err(|detail| {
        let cause = format!("ParseAddr({text:?}): {detail}");
        EvalError::new(format!("IP Address {text:?} parse error during conversion from string: {cause}"))
    })?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        ip => Ok(ip),
    }
}

/// Reads an address without a zone; the error is what is wrong with it.
fn read_ip(text: &str) -> Result<IpAddr, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip);
    }
    for c in text.chars() {
        match c {
            '.' => return Err(explain_v4(text)),
            ':' => return Err(explain_v6(text)),
            '%' => return Err("missing IPv6 address".to_owned()),
            _ => {}
        }
    }
    Err("unable to parse IP".to_owned())
}

fn explain_v4(text: &str) -> String {
    let (mut value, mut n_digits, mut position) = (0u32, 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' => {
                if n_digits == 1 && value == 0 {
                    return "IPv4 field has octet with leading zero".to_owned();
                }
                value = value.saturating_mul(10).saturating_add(c.to_digit(10).unwrap_or(0));
                n_digits += 1;
                if value > 255 {
                    return "IPv4 field has value >255".to_owned();
                }
            }
            '.' => {
                if at == 0 || at + 1 == text.len() || n_digits == 0 {
                    return format!("IPv4 field must have at least one digit (at {:?})", &text[at..]);
                }
                if position == 3 {
                    return "IPv4 address too long".to_owned();
                }
                position += 1;
                (value, n_digits) = (0, 0);
            }
            _ => return format!("unexpected character (at {:?})", &text[at..]),
        }
    }
    "IPv4 address too short".to_owned()
}

fn explain_v6(text: &str) -> String {
    if text.contains('%') {
        return "zones are not allowed".to_owned();
    }
    if let Some(at) = text.find(":::") {
        return format!("each colon-separated field must have at least one digit (at {:?})", &text[at + 2..]);
    }
    if let Some(at) = text.find(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.') {
        return format!("unexpected character (at {:?})", &text[at..]);
    }
    if text.matches("::").count() > 1 {
        return "multiple :: in address".to_owned();
    }
    if text.split(':').any(|field| field.len() > 4 && !field.contains('.')) {
        return "IPv6 field has value >=2^16".to_owned();
    }
    match text.split(':').count() {
        n if n > 8 => "trailing garbage after address".to_owned(),
        _ => "address string too short".to_owned(),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let cidr = read_cidr(text).map_err(|detail| {
        let prefix = "network address parse error during conversion from string";
        EvalError::new(format!("{prefix}: {prefix}: netip.ParsePrefix({text:?}): {detail}"))
    })?;
    match cidr.address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        _ => Ok(cidr),
    }
}

fn read_cidr(text: &str) -> Result<Cidr, String> {
    let Some((address, bits)) = text.rsplit_once('/') else { return Err("no '/'".to_owned()) };
    let address = read_ip(address).map_err(|detail| format!("ParseAddr({address:?}): {detail}"))?;
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    if !plain || (bits.len() > 1 && bits.starts_with('0')) {
        return Err(format!("bad bits after slash: {bits:?}"));
    }
    match bits.parse::<u8>() {
        Ok(bits) if bits <= if address.is_ipv4() { 32 } else { 128 } => Ok(Cidr { address, bits }),
        _ => Err("prefix length out of range".to_owned()),
    }
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

fn covers(network: Cidr, address: IpAddr) -> bool {
    network.address.is_ipv4() == address.is_ipv4()
        && mask(network.address, network.bits) == mask(address, network.bits)
}

fn contains_ip(args: &[Value]) -> Evaluated {
    let [network, other] = args else { return no_overload() };
    let network = self::network(std::slice::from_ref(network))?;
    let address = match other {
        Value::String(text) => parse_ip(text)?,
        other => address(std::slice::from_ref(other))?,
    };
    Ok(Value::Bool(covers(network, address)))
}

fn contains_cidr(args: &[Value]) -> Evaluated {
    let [network, other] = args else { return no_overload() };
    let network = self::network(std::slice::from_ref(network))?;
    let other = match other {
        Value::String(text) => parse_cidr(text)?,
        other => self::network(std::slice::from_ref(other))?,
    };
    Ok(Value::Bool(network.bits <= other.bits && covers(network, other.address)))
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip))
}
