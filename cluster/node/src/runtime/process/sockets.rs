//! Which TCP addresses the processes of a PID namespace listen on, from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Addresses at which the namespace of the process `init` listens, sorted.
pub(super) fn listening(init: i32) -> io::Result<Vec<SocketAddr>> {
    let namespace = fs::read_link(format!("/proc/{init}/ns/pid"))?;
    let mut inodes = HashSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let is_process = entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        if is_process && fs::read_link(entry.path().join("ns/pid")).is_ok_and(|other| other == namespace) {
            sockets_of(&entry.path(), &mut inodes);
        }
    }
    if inodes.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for name in ["tcp", "tcp6"] {
        // A kernel without IPv6 has no such file.
        let text = fs::read_to_string(PathBuf::from(format!("/proc/{init}/net/{name}"))).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| listener(line, &inodes)));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn sockets_of(process: &Path, inodes: &mut HashSet<String>) {
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            inodes.insert(inode.to_string());
        }
    }
}

fn listener(line: &str, inodes: &HashSet<String>) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != LISTEN || !inodes.contains(*inode) {
        return None;
    }
    parse_address(local)
}

/// `0100007F:1F90`: the address as words in host order, the port in hex.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_host_order() {
        let cases = [
            ("0100007F:1F90", "127.0.0.1:8080"),
            ("00000000:0050", "0.0.0.0:80"),
            ("00000000000000000000000001000000:4E21", "[::1]:20001"),
            ("0000000000000000FFFF00000100007F:4E21", "127.0.0.1:20001"),
        ];
        for (text, want) in cases {
            assert_eq!(parse_address(text), want.parse().ok(), "{text}");
        }
        assert_eq!(parse_address("0100:1"), None);
    }
}
