//! Redis, when it is configured: what replicas share that may be lost. Its loss costs latency, never progress:
//! the database stays the truth. Knows connections, not what is said over them.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
pub use redis::RedisResult;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, Msg};
use uuid::Uuid;

use service_runtime::config::{ConfigError, read_secret};
use service_runtime::redaction;

// Redis answers in microseconds; one that takes so long is as good as away.
const PATIENCE: Duration = Duration::from_secs(2);
const CHANNEL: &str = "agentic:hints";
// Who speaks stands before what is said.
const SPEAKER_CHARACTERS: usize = 32;

/// A Redis server that may be asked.
#[derive(Debug, Clone)]
pub struct Redis {
    client: Client,
}

impl Redis {
    /// Checks the settings; connects to nothing.
    pub fn new(url: &str, password_file: Option<&Path>) -> Result<Self, ConfigError> {
        // What redis says of a wrong URL does not repeat it: it may hold a password.
        let wrong =
            |error: redis::RedisError| ConfigError::invalid("--redis-url", error.to_string());
        let mut info: ConnectionInfo = url.into_connection_info().map_err(wrong)?;
        if let Some(file) = password_file {
            let password = read_secret("--redis-password-file", file)?;
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        if let Some(password) = info.redis_settings().password() {
            redaction::process().register("password of Redis", password);
        }
        let client = Client::open(info).map_err(wrong)?;
        Ok(Self { client })
    }

    /// A connection for commands.
    pub async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

// One cell of a generic cell rate algorithm, by the clock of the server: replicas' own clocks differ. Times are
// in microseconds, written as whole numbers, for Lua would round them.
const TAKE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local capacity = interval * tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
-- A clock that was set back must not lock anybody out for as long.
full = math.min(math.max(full, now), now + capacity)
local wait = full + interval - capacity - now
if wait > 0 then return wait end
local next = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000) + 1)
return 0";

/// An open line over which budgets are shared.
#[derive(Debug, Clone)]
pub struct Budgets {
    connection: MultiplexedConnection,
}

impl Budgets {
    /// Connects.
    pub async fn open(redis: &Redis) -> redis::RedisResult<Self> {
        let connection = redis.connect().await?;
        Ok(Self { connection })
    }

    /// Takes one out of a budget that gains one every `interval` and holds so many at most. `Some`: it is
    /// empty, and has one again after so long.
    pub async fn take(
        &mut self,
        name: &str,
        interval: Duration,
        capacity: u32,
    ) -> redis::RedisResult<Option<Duration>> {
        let interval = u64::try_from(interval.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let wait: u64 = redis::cmd("EVAL")
            .arg(TAKE)
            .arg(1)
            .arg(format!("agentic:budget:{name}"))
            .arg(interval)
            .arg(capacity)
            .query_async(&mut self.connection)
            .await?;
        Ok((wait > 0).then(|| Duration::from_micros(wait)))
    }
}

/// An open line over which replicas hear each other.
pub struct Line {
    speaker: String,
    telling: MultiplexedConnection,
    hearing: PubSubSink,
    messages: PubSubStream,
}

impl Line {
    /// Connects and listens. What others tell from now on is heard.
    pub async fn open(redis: &Redis) -> redis::RedisResult<Self> {
        let telling = redis.connect().await?;
        let (mut hearing, messages) = redis.client.get_async_pubsub().await?.split();
        hearing.subscribe(CHANNEL).await?;
        Ok(Self {
            speaker: Uuid::now_v7().simple().to_string(),
            telling,
            hearing,
            messages,
        })
    }

    /// Tells the others; with nothing to tell, it finds out whether both connections live.
    pub async fn tell(
        &mut self,
        payloads: &[String],
        heard: impl FnMut(&str),
    ) -> redis::RedisResult<()> {
        let mut telling = redis::pipe();
        for payload in payloads {
            telling
                .publish(CHANNEL, format!("{}{payload}", self.speaker))
                .ignore();
        }
        let connection = &mut self.telling;
        let hearing = &mut self.hearing;
        let told = async {
            if payloads.is_empty() {
                let _: redis::Value = hearing.ping().await?;
                redis::cmd("PING").exec_async(connection).await
            } else {
                telling.exec_async(connection).await
            }
        };
        hear(&mut self.messages, &self.speaker, told, heard).await?
    }

    /// Hears others until something else is done.
    pub async fn until<T>(
        &mut self,
        done: impl Future<Output = T>,
        heard: impl FnMut(&str),
    ) -> redis::RedisResult<T> {
        hear(&mut self.messages, &self.speaker, done, heard).await
    }
}

async fn hear<T>(
    messages: &mut PubSubStream,
    own: &str,
    done: impl Future<Output = T>,
    mut heard: impl FnMut(&str),
) -> redis::RedisResult<T> {
    tokio::pin!(done);
    loop {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(message) => {
                    if let Some((speaker, payload)) = read(&message)
                        && speaker != own
                    {
                        heard(payload);
                    }
                }
                None => return Err((redis::ErrorKind::Io, "the server closed the connection").into()),
            },
            done = &mut done => return Ok(done),
        }
    }
}

// Others may write to the channel: what is not ours is passed over.
fn read(message: &Msg) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
    text.split_at_checked(SPEAKER_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for url in [
            "",
            "http://redis",
            "redis://:secret@redis:port",
            "redis://:secret@/x y",
        ] {
            let said = Redis::new(url, None).unwrap_err().to_string();
            assert!(said.contains("--redis-url"), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn tls_is_spoken_where_the_url_says_so() {
        let redis = Redis::new("rediss://redis:6380/2", None).unwrap();
        let address = redis.client.get_connection_info().addr();
        assert!(matches!(
            address,
            redis::ConnectionAddr::TcpTls {
                insecure: false,
                ..
            }
        ));
    }

    #[test]
    fn the_password_of_a_file_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let redis = Redis::new("redis://agentic@redis", Some(&file)).unwrap();
        let settings = redis.client.get_connection_info().redis_settings();
        assert_eq!(
            (settings.username(), settings.password()),
            (Some("agentic"), Some("s3cret"))
        );
        std::fs::write(&file, "").unwrap();
        let said = Redis::new("redis://redis", Some(&file))
            .unwrap_err()
            .to_string();
        assert!(said.contains("--redis-password-file"), "{said}");
    }
}
