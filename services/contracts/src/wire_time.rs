//! Between `google.protobuf` times and those of the standard library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, for the wire.
pub fn now() -> prost_types::Timestamp {
    SystemTime::now().into()
}

/// A time for the wire.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

/// A time from the wire. `None`: out of range.
pub fn system_time(timestamp: prost_types::Timestamp) -> Option<SystemTime> {
    if timestamp.seconds < 0 {
        return None;
    }
    SystemTime::try_from(timestamp).ok()
}

/// Milliseconds since 1970.
pub fn unix_millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Microseconds since 1970; what is finer is left out.
pub fn micros(timestamp: &prost_types::Timestamp) -> i64 {
    timestamp
        .seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(timestamp.nanos / 1000))
}

/// A time from milliseconds since 1970; negative ones are 1970.
pub fn from_unix_millis(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A duration for the wire; more than 10 000 years are cut to that.
pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    const MOST: i64 = 315_576_000_000;
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(MOST).min(MOST),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from the wire. `None`: negative or malformed.
pub fn duration(wire: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u32::try_from(wire.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}
