//! A connection that the pool lends. Every statement on it is answered in time or given up, and a
//! connection that owes an answer never goes back into the pool: nobody knows what it would say
//! next. Knows nothing of what is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{GenericClient as Plain, Hook, HookError, Object, Pool};
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row, Statement, ToStatement};

use super::StoreError;

/// When a question was asked last that the database never answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    fn note(&self, asked: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(Some(asked));
    }

    /// Refuses to lend a connection that is older than a silence: whatever made one connection go
    /// silent, such as a server that moved, did so to all of its time.
    pub(super) fn hook(&self) -> Hook {
        let silence = self.clone();
        Hook::sync_fn(move |_, metrics| {
            let last = *silence.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|asked| metrics.created < asked) {
                return Err(HookError::message("others of its time went silent"));
            }
            Ok(())
        })
    }
}

/// What may be asked on a connection, alone or within a transaction.
pub trait GenericClient: Sync {
    /// Who asks.
    type Plain: Plain + Send;

    /// Who asks, and who watches the clock. An error only after it was given back.
    fn parts(&self) -> Result<(&Self::Plain, &Watch), StoreError>;

    /// Prepares a statement, once per connection.
    fn prepare_cached(
        &self,
        query: &str,
    ) -> impl Future<Output = Result<Statement, StoreError>> + Send {
        async move {
            let (client, watch) = self.parts()?;
            watch.answered(client.prepare_cached(query)).await
        }
    }

    /// Asks for all rows.
    fn query(
        &self,
        statement: &(impl ToStatement + ?Sized + Sync + Send),
        parameters: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send {
        async move {
            let (client, watch) = self.parts()?;
            watch.answered(client.query(statement, parameters)).await
        }
    }

    /// Asks for the one row that there must be.
    fn query_one(
        &self,
        statement: &(impl ToStatement + ?Sized + Sync + Send),
        parameters: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Row, StoreError>> + Send {
        async move {
            let (client, watch) = self.parts()?;
            watch
                .answered(client.query_one(statement, parameters))
                .await
        }
    }

    /// Asks for the one row that there may be.
    fn query_opt(
        &self,
        statement: &(impl ToStatement + ?Sized + Sync + Send),
        parameters: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, StoreError>> + Send {
        async move {
            let (client, watch) = self.parts()?;
            watch
                .answered(client.query_opt(statement, parameters))
                .await
        }
    }

    /// Changes something, and answers how many rows.
    fn execute(
        &self,
        statement: &(impl ToStatement + ?Sized + Sync + Send),
        parameters: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        async move {
            let (client, watch) = self.parts()?;
            watch.answered(client.execute(statement, parameters)).await
        }
    }

    /// Runs statements that have no parameters.
    fn batch_execute(
        &self,
        statements: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let (client, watch) = self.parts()?;
            watch.answered(client.batch_execute(statements)).await
        }
    }
}

/// Watches the clock for one loan.
#[derive(Debug)]
pub struct Watch {
    patience: Duration,
    // A question is not answered: it took too long, or whoever asked did not wait.
    owed: AtomicBool,
    silence: Silence,
}

impl Watch {
    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>> + Send,
    ) -> Result<T, StoreError> {
        let asked = Instant::now();
        self.owed.store(true, Ordering::Relaxed);
        let Ok(answer) = tokio::time::timeout(self.patience, answer).await else {
            self.silence.note(asked);
            return Err(StoreError::Silent(self.patience));
        };
        self.owed.store(false, Ordering::Relaxed);
        Ok(answer?)
    }
}

/// A connection on loan.
#[derive(Debug)]
pub struct Client {
    // Always there, until it is dropped.
    object: Option<Object>,
    watch: Watch,
}

impl Client {
    pub(super) async fn lend(
        pool: &Pool,
        patience: Duration,
        silence: &Silence,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            object: Some(pool.get().await?),
            watch: Watch {
                patience,
                owed: AtomicBool::new(false),
                silence: silence.clone(),
            },
        })
    }

    /// Begins a transaction, which is rolled back unless it is committed.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, StoreError> {
        let object = self.object.as_mut().ok_or(StoreError::Closed)?;
        Ok(Transaction {
            transaction: self.watch.answered(object.transaction()).await?,
            watch: &self.watch,
        })
    }

    /// Begins a transaction that reads, and sees nothing that is committed meanwhile.
    pub async fn snapshot(&mut self) -> Result<Transaction<'_>, StoreError> {
        let object = self.object.as_mut().ok_or(StoreError::Closed)?;
        let begun = object
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start();
        Ok(Transaction {
            transaction: self.watch.answered(begun).await?,
            watch: &self.watch,
        })
    }
}

impl GenericClient for Client {
    type Plain = Object;

    fn parts(&self) -> Result<(&Object, &Watch), StoreError> {
        let object = self.object.as_ref().ok_or(StoreError::Closed)?;
        Ok((object, &self.watch))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.watch.owed.load(Ordering::Relaxed)
            && let Some(object) = self.object.take()
        {
            // Out of the pool, which makes another one when it needs one. The server ends what it
            // was asked by its own timeout.
            drop(Object::take(object));
        }
    }
}

/// Several statements that become true together.
pub struct Transaction<'a> {
    transaction: deadpool_postgres::Transaction<'a>,
    watch: &'a Watch,
}

impl Transaction<'_> {
    /// Makes them true. [`StoreError::Silent`]: nobody knows.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.watch.answered(self.transaction.commit()).await
    }
}

impl<'a> GenericClient for Transaction<'a> {
    type Plain = deadpool_postgres::Transaction<'a>;

    fn parts(&self) -> Result<(&Self::Plain, &Watch), StoreError> {
        Ok((&self.transaction, self.watch))
    }
}
