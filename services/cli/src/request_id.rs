//! Ids of our mutating calls, so that a call whose answer got lost can be made again.

use contracts::id::TaskId;

/// A new one.
pub fn fresh() -> String {
    // Any UUIDv7 does; the contract's ids are all made alike.
    TaskId::new().to_string()
}
