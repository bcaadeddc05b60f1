//! Gives each Pod a TCP port of its own on loopback.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Ports for Pods: below what systems use for outgoing connections, above what people pick by hand.
const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;

/// Ports that are taken, and where to look next.
#[derive(Default)]
pub(crate) struct Ports(Mutex<(BTreeSet<u16>, u16)>);

impl Ports {
    /// Marks the port of a Pod that is here already.
    pub(crate) fn keep(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.insert(port);
    }

    /// A port that nobody listens on. Not the ones used just before, so that late packets find nobody new.
    pub(crate) fn take(&self) -> Result<u16> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = if ports.1 == 0 { fastrand::u16(0..5000) } else { ports.1 };
        let count = LAST - FIRST + 1;
        for offset in 0..count {
            let port = FIRST + (start + offset) % count;
            if !ports.0.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                ports.0.insert(port);
                ports.1 = (start + offset + 1) % count;
                return Ok(port);
            }
        }
        Err(Error::NoPort { first: FIRST, last: LAST })
    }

    pub(crate) fn free(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&port);
    }
}
