//! The one connection on which a replica tells others what it committed, and hears what they did.
//! Knows payloads, not what they mean.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_postgres::{AsyncMessage, Client, Statement};

use super::{Store, StoreError};

const LISTEN: &str = "
-- A hint that a crash loses is found by the poll: nobody waits for the disk.
SET synchronous_commit = off;
LISTEN agentic_hints";

/// An open connection that listens.
pub struct Line {
    client: Client,
    messages: BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>,
    notify: Statement,
    own: i32,
}

impl Line {
    /// Connects and listens. What others tell from now on is heard.
    pub async fn open(store: &Store) -> Result<Self, StoreError> {
        let (client, mut messages) = store.connect("agentic-orchestrator-hints").await?;
        let prepared = async {
            client.batch_execute(LISTEN).await?;
            let own = client.query_one("SELECT pg_backend_pid()", &[]).await?;
            let notify = client
                .prepare(
                    "SELECT pg_notify('agentic_hints', payload) FROM unnest($1::text[]) AS payload",
                )
                .await?;
            Ok::<_, StoreError>((notify, own.try_get(0)?))
        };
        // Others may talk already; what they say is made good by the look that follows.
        let (notify, own) = hear(&mut messages, prepared, |_, _| {}).await??;
        Ok(Self {
            client,
            messages,
            notify,
            own,
        })
    }

    /// Tells the others; with nothing to tell, it finds out whether the connection lives.
    pub async fn tell(
        &mut self,
        payloads: &[String],
        mut heard: impl FnMut(&str),
    ) -> Result<(), StoreError> {
        let (client, notify, own) = (&self.client, &self.notify, self.own);
        let told = async { client.execute(notify, &[&payloads]).await };
        hear(&mut self.messages, told, |from, payload| {
            if from != own {
                heard(payload);
            }
        })
        .await??;
        Ok(())
    }

    /// Hears others until something else is done.
    pub async fn until<T>(
        &mut self,
        done: impl Future<Output = T>,
        mut heard: impl FnMut(&str),
    ) -> Result<T, StoreError> {
        let own = self.own;
        hear(&mut self.messages, done, |from, payload| {
            if from != own {
                heard(payload);
            }
        })
        .await
    }
}

// The connection lives only while somebody reads its messages.
async fn hear<T>(
    messages: &mut BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>,
    done: impl Future<Output = T>,
    mut heard: impl FnMut(i32, &str),
) -> Result<T, StoreError> {
    tokio::pin!(done);
    loop {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(told))) => {
                    heard(told.process_id(), told.payload());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(StoreError::Closed),
            },
            done = &mut done => return Ok(done),
        }
    }
}
