//! What condition an agent is in, and why, in words for people; and how long one that let tasks go
//! wrong gets no new ones.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use contracts::id::InstanceId;
use contracts::orchestrator::{self as wire, AgentState};
use contracts::wire_time;

use super::{Agents, Connected, LOST_AFTER, SUSPECT_AFTER};

/// First time without work after a task went wrong; doubled each time.
const DISTRUST: Duration = Duration::from_secs(15);
/// Longest such time: an agent that was repaired must not be forgotten.
const DISTRUST_MOST: Duration = Duration::from_mins(5);
/// For so long others are preferred to one whose task ran out of time. Not for ever: it may be well again.
const AVOIDED: Duration = Duration::from_mins(1);
/// Clocks that differ less are none of anybody's concern.
const CLOCK_OFF: f64 = 5.0;

/// What went wrong with the last task, or the last few.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    why: String,
    count: u32,
    until: Instant,
}

impl Trouble {
    /// It went wrong again: no work for longer than last time.
    pub(super) fn again(earlier: Option<Self>, why: &str, now: Instant) -> Self {
        let why = why.to_owned();
        let count = match earlier {
            // All that it had went wrong together: that is one trouble.
            Some(earlier) if earlier.holds(now) => return Self { why, ..earlier },
            Some(earlier) => earlier.count,
            None => 0,
        };
        let pause = DISTRUST.saturating_mul(1 << count.min(16));
        Self {
            why,
            count: count.saturating_add(1),
            until: now + pause.min(DISTRUST_MOST),
        }
    }

    /// It went wrong; work goes on.
    pub(super) fn noted(earlier: Option<Self>, why: &str) -> Self {
        Self {
            why: why.to_owned(),
            count: earlier.as_ref().map_or(0, |trouble| trouble.count),
            until: earlier.map_or_else(Instant::now, |trouble| trouble.until),
        }
    }

    /// Whether it keeps the agent from work.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.until
    }
}

impl Agents {
    /// A task went wrong in a way that is the agent's fault, and may go wrong again: no new work for
    /// a while, which grows until one goes well.
    pub fn distrust(&self, instance_id: InstanceId, why: &str) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            tracing::warn!(agentic.agent.instance_id = %instance_id, why, "agent gets no work for a while");
            let earlier = agent.trouble.take();
            agent.trouble = Some(Trouble::again(earlier, why, Instant::now()));
        }
    }

    /// A task went wrong in a way that need not be the agent's fault: people should see it.
    pub fn remark(&self, instance_id: InstanceId, why: &str) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            let earlier = agent.trouble.take();
            agent.trouble = Some(Trouble::noted(earlier, why));
            // Whatever else goes well there: the same task must not come back at once.
            agent.avoided_until = Some(Instant::now() + AVOIDED);
        }
    }

    /// A task went well.
    pub fn trust(&self, instance_id: InstanceId) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            agent.trouble = None;
        }
    }
}

impl Connected {
    /// Whether others are preferred.
    pub(super) fn is_avoided(&self, now: Instant) -> bool {
        self.avoided_until.is_some_and(|until| now < until)
    }

    pub(super) fn state(&self, now: Instant) -> AgentState {
        let silent = now.duration_since(self.last_beat);
        if self.goodbye {
            AgentState::Gone
        } else if self.lost.is_cancelled() || silent > LOST_AFTER {
            AgentState::Lost
        } else if self.session.is_none() || silent > SUSPECT_AFTER {
            AgentState::Suspect
        } else if !self.heard {
            AgentState::Connecting
        } else if self.draining {
            AgentState::Draining
        } else if !self.reachable {
            if self.last_callback.is_none() && self.callback_error == "not called back yet" {
                AgentState::Connecting
            } else {
                AgentState::Unreachable
            }
        } else if !self.beat.unfit_reason.is_empty()
            || self
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.holds(now))
        {
            AgentState::Unfit
        } else {
            AgentState::Ready
        }
    }

    pub(super) fn to_wire(
        &self,
        instance_id: InstanceId,
        replica_id: &str,
        now: Instant,
    ) -> wire::Agent {
        wire::Agent {
            instance_id: instance_id.to_string(),
            agent_type: self.agent_type.into(),
            state: self.state(now).into(),
            address: self.hello.address.clone(),
            version: self.hello.version.clone(),
            slot_count: self.hello.slot_count,
            free_slot_count: i32::try_from(self.free_slot_count()).unwrap_or(i32::MAX),
            labels: self.hello.labels.clone(),
            capabilities: self.hello.capabilities.clone(),
            task_ids: self
                .beat
                .running
                .iter()
                .map(|task| task.task_id.clone())
                .collect(),
            connect_time: Some(wire_time::timestamp(self.since)),
            last_beat_time: Some(wire_time::timestamp(self.last_beat_time)),
            last_callback_time: self.last_callback.map(wire_time::timestamp),
            callback_error: self.callback_error.clone(),
            cpu_percent: self.beat.cpu_percent,
            memory_bytes: self.beat.memory_bytes,
            replica_id: replica_id.to_owned(),
            reason: self.reason(now),
            clock_offset: self.clock_offset.and_then(wire_offset),
        }
    }

    /// Why it is in its state, or what is wrong with it although it works. Empty: nothing.
    fn reason(&self, now: Instant) -> String {
        let silent = now.duration_since(self.last_beat).as_secs();
        let troubled = self.trouble.as_ref().map(|trouble| trouble.why.as_str());
        match self.state(now) {
            AgentState::Gone => "it left in order".to_owned(),
            AgentState::Lost => {
                format!("it was not heard of for {silent} s: its tasks go to others")
            }
            AgentState::Suspect if self.session.is_none() => {
                format!("its session broke, and it was not heard of for {silent} s")
            }
            AgentState::Suspect => format!("it was not heard of for {silent} s"),
            AgentState::Draining => "it finishes what it has and takes nothing new".to_owned(),
            AgentState::Connecting if !self.heard => {
                "it said hello, and does not beat: perhaps it hears nothing".to_owned()
            }
            AgentState::Connecting => "it was not called back yet".to_owned(),
            AgentState::Unreachable => format!(
                "its heartbeats arrive, but {} cannot be called: {}",
                self.hello.address, self.callback_error
            ),
            AgentState::Unfit if !self.beat.unfit_reason.is_empty() => {
                format!("it cannot work: {}", self.beat.unfit_reason)
            }
            AgentState::Unfit => {
                let left = self
                    .trouble
                    .as_ref()
                    .map_or(0, |trouble| (trouble.until - now).as_secs());
                format!(
                    "no work for {left} s more: {}",
                    troubled.unwrap_or_default()
                )
            }
            AgentState::Ready | AgentState::Unspecified => self
                .clock_reason()
                .or_else(|| troubled.map(|why| format!("its last task went wrong: {why}")))
                .unwrap_or_default(),
        }
    }

    fn clock_reason(&self) -> Option<String> {
        let offset = self
            .clock_offset
            .filter(|offset| offset.abs() >= CLOCK_OFF)?;
        let way = if offset > 0.0 { "ahead" } else { "behind" };
        Some(format!(
            "its clock is {:.0} s {way}: times in its own words are wrong, leases and deadlines are not",
            offset.abs()
        ))
    }
}

/// By how many seconds a time is ahead of another.
pub(super) fn ahead(time: SystemTime, now: SystemTime) -> f64 {
    match time.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

/// For the wire, to the millisecond; nothing for what no clock can be off by.
fn wire_offset(seconds: f64) -> Option<prost_types::Duration> {
    const FOREVER: f64 = 10_000.0 * 365.0 * 86_400.0;
    if !seconds.is_finite() || seconds.abs() > FOREVER {
        return None;
    }
    let millis = (seconds * 1000.0).round() as i64;
    Some(prost_types::Duration {
        seconds: millis / 1000,
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_goes_wrong_again_waits_twice_as_long() {
        let mut trouble = None;
        let mut now = Instant::now();
        for expected in [15, 30, 60, 120, 240, 300, 300] {
            let again = Trouble::again(trouble.take(), "silence", now);
            assert_eq!(again.until - now, Duration::from_secs(expected));
            // What goes wrong meanwhile was begun before.
            let meanwhile = Trouble::again(Some(again), "more silence", now);
            assert_eq!(meanwhile.until - now, Duration::from_secs(expected));
            now = meanwhile.until;
            trouble = Some(meanwhile);
        }
        let trouble = Trouble::again(None, "silence", Instant::now());
        let noted = Trouble::noted(None, "stuck");
        assert!(
            !noted.holds(Instant::now()),
            "a remark keeps nobody from work"
        );
        let held = Trouble::noted(Some(trouble), "stuck");
        assert!(held.holds(Instant::now()), "a remark ends nothing either");
    }

    #[test]
    fn offsets_have_one_sign_and_millisecond_precision() {
        let now = SystemTime::now();
        let hour = Duration::from_hours(1) + Duration::from_millis(250);
        let wire = |time| wire_offset(ahead(time, now)).unwrap();
        let (before, after) = (wire(now + hour), wire(now - hour));
        assert_eq!((before.seconds, before.nanos), (3600, 250_000_000));
        assert_eq!((after.seconds, after.nanos), (-3600, -250_000_000));
        assert_eq!(wire_offset(f64::INFINITY), None);
    }
}
