//! Ports for instances, below the range that the kernel hands out by itself, so that no outgoing
//! connection can take one between the choice and the app's own `bind`.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

/// Ports that instances may get, and those that were given out.
#[derive(Debug, Clone)]
pub struct InstancePorts {
    range: RangeInclusive<u16>,
    taken: Arc<Mutex<HashSet<u16>>>,
}

/// A port for as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    taken: Arc<Mutex<HashSet<u16>>>,
}

impl InstancePorts {
    /// Ports of a range.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            range,
            taken: Arc::default(),
        }
    }

    /// A port that nobody listens on and that was not given out. The place to begin is random, so
    /// that agents on one machine do not meet.
    pub fn take(&self) -> io::Result<Port> {
        let (first, last) = (u32::from(*self.range.start()), u32::from(*self.range.end()));
        let count = (last + 1).saturating_sub(first).max(1);
        let begin = rand::random_range(0..count);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for step in 0..count {
            let Ok(number) = u16::try_from(first + (begin + step) % count) else {
                continue;
            };
            if taken.contains(&number) || TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_err()
            {
                continue;
            }
            taken.insert(number);
            return Ok(Port {
                number,
                taken: Arc::clone(&self.taken),
            });
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("every port from {first} to {last} is in use"),
        ))
    }
}

impl Port {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once_and_comes_back() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let number = held.local_addr().expect("it is bound").port();
        let ports = InstancePorts::new(number..=number);
        assert!(ports.take().is_err(), "somebody listens on it");
        drop(held);
        let port = ports.take().expect("it is free now");
        assert_eq!(port.number(), number);
        assert!(ports.take().is_err(), "it was given out");
        drop(port);
        assert!(ports.take().is_ok());
    }
}
