//! Faults that are really done to real processes, under a load of many workflows. After each, the
//! same four things must hold: see [`invariants`]. Each test prints what it measured in one line.

mod agents;
mod bed;
mod client;
mod connections;
mod figures;
mod fleet;
mod frozen;
mod invariants;
mod killed;
mod load;
mod replica;
mod rolling;
mod worker;
