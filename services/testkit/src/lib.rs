//! What tests of the mesh are made of: a database per test, servers on free ports, faulty networks, repositories with history.
//! For tests only; it knows the contract and the service runtime, and no service.

pub mod cluster;
pub mod database;
pub mod fault_proxy;
pub mod loopback;
pub mod redis_server;
pub mod repository;
pub mod requirement;
pub mod scripted_agent;
