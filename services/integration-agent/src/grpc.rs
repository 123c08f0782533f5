//! Between the contract and the domain: requests are checked field by field, results are written down. No
//! merge is made here.

pub mod answer;
pub mod request;
