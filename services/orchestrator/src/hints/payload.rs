//! Hints as text: one word each. Unknown words are those of a newer version and are passed over.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use contracts::id::{InstanceId, WorkflowId};
use contracts::task::AgentType;

use super::{Hint, Pending};

// PostgreSQL takes less than 8000 bytes.
const BYTES: usize = 7900;
// More than so much at once costs the server more than a look costs the readers.
const PAYLOADS: usize = 8;
const MISSED: &str = "*";
const HELLO: &str = "+";

/// The payloads that say everything; when that is too much, one that says so.
pub(super) fn write(pending: &Pending) -> Vec<String> {
    let mut words = Vec::new();
    if pending.hello {
        words.push(HELLO.to_owned());
    }
    words.extend(pending.waiting.iter().map(|kind| format!("t{kind}")));
    words.extend(pending.drains.iter().map(|id| format!("d{}", short(*id))));
    words.extend(pending.logs_wanted.iter().map(|(id, from_start)| {
        let kind = if *from_start { 'b' } else { 'l' };
        format!("{kind}{}", short(*id))
    }));
    words.extend(
        pending
            .logs_written
            .iter()
            .map(|id| format!("n{}", short(*id))),
    );
    words.extend(pending.changed.iter().map(|(id, (sequence, stop))| {
        let kind = if *stop { 's' } else { 'w' };
        format!("{kind}{}:{sequence}", short(*id))
    }));
    let mut payloads: Vec<String> = Vec::new();
    for word in words {
        match payloads.last_mut() {
            Some(last) if last.len() + 1 + word.len() <= BYTES => {
                last.push(' ');
                last.push_str(&word);
            }
            _ => payloads.push(word),
        }
    }
    if payloads.len() > PAYLOADS {
        payloads = vec![MISSED.to_owned()];
    }
    payloads
}

/// What a payload says.
pub(super) fn read(payload: &str) -> impl Iterator<Item = Hint> + '_ {
    payload.split(' ').filter_map(word)
}

fn word(word: &str) -> Option<Hint> {
    match word {
        MISSED => return Some(Hint::Missed),
        HELLO => return Some(Hint::Hello),
        _ => {}
    }
    let (kind, rest) = word.split_at_checked(1)?;
    match kind {
        "t" => AgentType::try_from(rest.parse::<i32>().ok()?)
            .ok()
            .map(Hint::Waiting),
        "d" => Some(Hint::Drain(InstanceId(long(rest)?))),
        "b" | "l" => Some(Hint::LogsWanted {
            workflow_id: WorkflowId(long(rest)?),
            from_start: kind == "b",
        }),
        "n" => Some(Hint::LogsWritten(WorkflowId(long(rest)?))),
        "w" | "s" => {
            let (id, sequence) = rest.split_once(':')?;
            Some(Hint::Changed {
                workflow_id: WorkflowId(long(id)?),
                sequence: sequence.parse().ok()?,
                stop: kind == "s",
            })
        }
        _ => None,
    }
}

fn short(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn long(text: &str) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_foreign_words_are_passed_over() {
        let (workflow, agent) = (WorkflowId::new(), InstanceId::new());
        let mut pending = Pending {
            hello: true,
            ..Pending::default()
        };
        pending.changed.insert(workflow.0, (42, true));
        pending.drains.insert(agent.0);
        pending.waiting.insert(AgentType::E2e.into());
        pending.logs_wanted.insert(workflow.0, true);
        pending.logs_written.insert(workflow.0);
        let payloads = write(&pending);
        assert_eq!(payloads.len(), 1);
        let text = format!("{} z9 w:: s!:1 tx l! n  é", payloads[0]);
        let hints: Vec<_> = read(&text).collect();
        assert_eq!(
            hints,
            [
                Hint::Hello,
                Hint::Waiting(AgentType::E2e),
                Hint::Drain(agent),
                Hint::LogsWanted {
                    workflow_id: workflow,
                    from_start: true
                },
                Hint::LogsWritten(workflow),
                Hint::Changed {
                    workflow_id: workflow,
                    sequence: 42,
                    stop: true
                },
            ]
        );
    }

    #[test]
    fn no_payload_is_too_long_and_too_many_become_one() {
        let many = |count: usize| {
            let changed = (0..count).map(|_| (Uuid::now_v7(), (i64::MAX, false)));
            write(&Pending {
                changed: changed.collect(),
                ..Pending::default()
            })
        };
        let payloads = many(1000);
        assert!(payloads.len() > 1 && payloads.iter().all(|text| text.len() <= BYTES));
        let read_again: usize = payloads.iter().map(|text| read(text).count()).sum();
        assert_eq!(read_again, 1000);
        assert_eq!(many(10_000), [MISSED]);
        assert!(many(0).is_empty());
    }
}
