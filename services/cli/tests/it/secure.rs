//! Certificates in real use: the command makes them, real services and the real command live by them.

mod certs;
mod mesh;
mod refusals;
