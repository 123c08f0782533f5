//! Attempts that stop for an answer or for want of a budget, and those that go on from there.

use contracts::task::{
    AnswerKind, AnsweredClarification, Budget, BudgetLimit, Verdict, task_event,
};
use serde_json::json;

use crate::{
    recording::{branch, calls, done, implement, play, project, record, record_more, verdict},
    serving::context,
};

#[tokio::test]
async fn a_model_asks_and_goes_on_with_the_answer_where_it_stopped() {
    let repository = project();
    let asked = context("t-1", &repository.url());
    let script = vec![
        calls(&[
            (
                "ask",
                json!({"question": "Which?", "kind": "choice", "choices": []}),
            ),
            ("read", json!({"path": "app/greet.py"})),
            (
                "write",
                json!({"path": "app/money.py", "content": "CURRENCY = None\n"}),
            ),
        ]),
        calls(&[
            (
                "ask",
                json!({"question": "Which currency?", "kind": "choice", "choices": ["euro", "yen"]}),
            ),
            // It waits for the answer: nothing after it is carried out.
            ("delete", json!({"path": "app/greet.py"})),
        ]),
    ];
    let recorded = record(&repository, &asked, &implement(), script).await;
    assert!(recorded.asked[1].prompt.contains("`choices` are 2 to 16"));
    let result = play(recorded.folder.path())
        .await
        .run(asked.clone(), implement())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    let question = outcome.clarification.unwrap();
    assert_eq!(question.question, "Which currency?");
    assert_eq!(question.kind(), AnswerKind::Choice);
    assert_eq!(question.choices, ["euro", "yen"]);
    assert_eq!(branch(&repository), None, "half of it was published");
    assert_eq!(outcome.usage.unwrap().call_count, 2);

    let mut answered = asked;
    // Another piece of work, with the answer and what was kept.
    answered.task_id = "t-2".to_owned();
    answered.checkpoint = outcome.checkpoint;
    answered.clarifications = vec![AnsweredClarification {
        question: question.question,
        answer: "yen".to_owned(),
        ..AnsweredClarification::default()
    }];
    let script = vec![
        calls(&[(
            "edit",
            json!({"path": "app/money.py", "old": "None", "new": "'yen'"}),
        )]),
        done(),
    ];
    let recorded = record_more(
        recorded.folder,
        &repository,
        &answered,
        &implement(),
        script,
    )
    .await;
    let prompt = &recorded.asked[0].prompt;
    for told in [
        "- Which currency?\n  Answer: yen",
        "app/money.py",
        "1. ask: refused",
        "4. ask: Which currency?",
        "## Open file: app/greet.py",
    ] {
        assert!(prompt.contains(told), "{told}: {prompt}");
    }
    let agent = play(recorded.folder.path()).await;
    let result = agent.run(answered, implement()).await.unwrap();
    assert_eq!(verdict(&result), Verdict::Passed, "{result:?}");
    assert_eq!((result.round_count, result.created_count), (4, 1));
    let content = repository.read(&result.commit, "app/money.py").unwrap();
    assert_eq!(content.unwrap(), b"CURRENCY = 'yen'\n");
}

#[tokio::test]
async fn who_asked_three_times_cannot_ask_again() {
    let repository = project();
    let mut asked = context("t-1", &repository.url());
    asked.clarifications = vec![AnsweredClarification::default(); 3];
    let question = json!({"question": "Which?", "kind": "text", "choices": []});
    let script = vec![calls(&[("ask", question)]), done()];
    let recorded = record(&repository, &asked, &implement(), script).await;
    assert!(
        recorded.asked[0]
            .tools
            .iter()
            .all(|tool| tool.name != "ask")
    );
    assert!(recorded.asked[1].prompt.contains("there is no tool `ask`"));
    assert!(recorded.draft.question.is_none());
}

#[tokio::test]
async fn a_spent_budget_stops_the_work_and_a_larger_one_goes_on_with_it() {
    let repository = project();
    let mut asked = context("t-1", &repository.url());
    asked.budget = Some(Budget {
        cost_micros: 14,
        ..Budget::default()
    });
    // Seven of a call: the third has nothing to spend.
    let script = vec![
        calls(&[("write", json!({"path": "app/a.py", "content": "A = 1\n"}))]),
        calls(&[("delete", json!({"path": "README.md"}))]),
    ];
    let recorded = record(&repository, &asked, &implement(), script).await;
    let agent = play(recorded.folder.path()).await;
    let (events, result) = agent.watch(asked.clone(), implement()).await.unwrap();
    let spent: Vec<i64> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Some(task_event::Payload::Beat(beat)) => Some(beat.usage?.cost_micros),
            _ => None,
        })
        .collect();
    assert_eq!(spent, [7, 14], "what was spent is told as it is spent");
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.exhausted(), BudgetLimit::Cost);
    assert_eq!(
        outcome.summary,
        "The money of the budget ran out after 2 round(s): nothing of it is left"
    );
    assert_eq!(branch(&repository), None, "half of it was published");

    // The same piece of work, with more to spend.
    asked.attempt = 2;
    asked.checkpoint = outcome.checkpoint;
    asked.budget = Some(Budget {
        cost_micros: 7,
        ..Budget::default()
    });
    let recorded = record_more(
        recorded.folder,
        &repository,
        &asked,
        &implement(),
        vec![done()],
    )
    .await;
    let agent = play(recorded.folder.path()).await;
    let result = agent.run(asked.clone(), implement()).await.unwrap();
    assert_eq!(verdict(&result), Verdict::Passed, "{result:?}");
    assert_eq!(
        (
            result.created_count,
            result.deleted_count,
            result.round_count
        ),
        (1, 1, 3)
    );
    assert_eq!(result.outcome.unwrap().usage.unwrap().call_count, 1);

    // A checkpoint that is of another time or of nobody begins anew.
    for checkpoint in [b"nonsense".to_vec(), b"{}".to_vec(), vec![0; 70_000]] {
        asked.checkpoint = checkpoint;
        asked.task_id = "t-9".to_owned();
        let fresh = record(&repository, &asked, &implement(), vec![done()]).await;
        assert_eq!(fresh.draft.round_count, 1);
    }
}
