//! Faults of agents: processes with the real agent runtime in them, under a load of many workflows.
//! Those of one group happen side by side, so that waiting for one is waiting for all.

mod bed;
mod disks;
mod half_dead;
mod networks;
mod processes;
mod queue;
mod redelivered;
