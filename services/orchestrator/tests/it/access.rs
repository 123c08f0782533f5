//! Who may call what: every method with every role and without any credential, tokens from their
//! making to their end, and whose name is on record.

mod audit;
pub mod bed;
mod limits;
mod matrix;
mod oidc;
mod streams;
mod tokens;
