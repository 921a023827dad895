//! A few sessions for what is not on the data path.
//!
//! A session is given back by who has had its answer. Whoever fails, or is cut short by a deadline,
//! drops it, and with it all that lie idle: they were made before the trouble. So a call that times
//! out keeps nothing, and no session survives here that a failover has left behind.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, Postgres, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::target::{Target, wrapped};

/// How long a call waits for a session while others use all of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session is used no longer: what it holds on the server grows with its age.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Clone)]
pub struct Pool {
    target: Target,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    made: Instant,
}

/// A session in use. Dropped rather than given back, it is closed, and those that lie idle with it.
#[derive(Debug)]
pub struct Lent {
    session: Idle,
    place: Place,
}

/// What a session takes up in its pool.
#[derive(Debug)]
struct Place {
    idle: Arc<Mutex<Vec<Idle>>>,
    in_order: bool,
    _permit: OwnedSemaphorePermit,
}

impl Target {
    /// A few sessions for what is not on the data path. Connects when first used.
    pub fn pool(&self, connections: usize) -> Pool {
        Pool::new(self.clone(), connections)
    }
}

impl Pool {
    fn new(target: Target, connections: usize) -> Self {
        Self { target, places: Arc::new(Semaphore::new(connections)), idle: Arc::default() }
    }

    /// A session, for several calls. It has to be given back.
    ///
    /// # Errors
    /// None is free in time; or what keeps one from being made: [`classify`](super::classify) has
    /// it as it was.
    pub async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let permit =
            permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let place = Place { idle: Arc::clone(&self.idle), in_order: false, _permit: permit };
        while let Some(session) = lie_idle(&self.idle).pop() {
            if session.made.elapsed() < LIFETIME {
                return Ok(Lent { session, place });
            }
        }
        let connection = self.target.connect().await.map_err(wrapped)?;
        Ok(Lent { session: Idle { connection, made: Instant::now() }, place })
    }

    /// Lends no more, and closes what lies idle.
    pub async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *lie_idle(&self.idle));
        for session in idle {
            super::close(session.connection).await;
        }
    }
}

impl Lent {
    /// What was asked has been answered.
    pub fn give_back(self) {
        let Self { session, mut place } = self;
        lie_idle(&place.idle).push(session);
        place.in_order = true;
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.session.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.session.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.in_order {
            lie_idle(&self.idle).clear();
        }
    }
}

fn lie_idle(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call on a session of the pool's, which is given back once all is answered.
impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = async move {
            let mut lent = self.acquire().await?;
            let all: Vec<_> = lent.fetch_many(query).try_collect().await?;
            lent.give_back();
            Ok::<_, sqlx::Error>(stream::iter(all.into_iter().map(Ok)))
        };
        stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut lent = self.acquire().await?;
            let row = lent.fetch_optional(query).await?;
            lent.give_back();
            Ok(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(async move {
            let mut lent = self.acquire().await?;
            let statement = lent.prepare_with(sql, parameters).await?;
            lent.give_back();
            Ok(statement)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(async move {
            let mut lent = self.acquire().await?;
            let described = lent.describe(sql).await?;
            lent.give_back();
            Ok(described)
        })
    }
}
