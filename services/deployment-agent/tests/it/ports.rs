//! Ports for routers of tests: each agent has some to itself, so that nobody else sits on the port of
//! a killed one when it comes back. Below the ports that the kernel hands out by itself.

use std::{fs::File, ops::RangeInclusive, sync::Mutex};

use nix::fcntl::{Flock, FlockArg};

const FIRST: u16 = 30_000;
const EACH: u16 = 8;
const COUNT: u16 = 250;

/// Ports that nobody else on this machine is given as long as this process lives.
pub fn claim() -> RangeInclusive<u16> {
    static CLAIMS: Mutex<Vec<Flock<File>>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("agentic-deployment-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    for block in 0..COUNT {
        let file = File::create(folder.join(block.to_string())).unwrap();
        if let Ok(claim) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            CLAIMS.lock().unwrap().push(claim);
            let first = FIRST + block * EACH;
            return first..=first + EACH - 1;
        }
    }
    panic!("every block of ports is claimed");
}
