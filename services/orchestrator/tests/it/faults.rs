//! Faults that are really done to real processes, under a load of many workflows. After each, the
//! same four things must hold: see [`invariants`]. Each test prints what it measured in one line.

mod agents;
mod bed;
mod client;
mod clocks;
mod connections;
mod cut_off;
mod exhausted;
mod figures;
mod fleet;
mod frozen;
mod invariants;
mod killed;
mod load;
mod network;
mod replica;
mod restarted;
mod rolling;
mod server;
mod worker;
