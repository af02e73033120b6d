//! The connection to Redis: made when it is needed, given up when it fails, found through sentinels where there are any.

use std::fmt;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisResult, TlsCertificates, cmd,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::outcome::{is_end, refusal, unreachable};
use super::{RedisAddress, RedisConfig, RedisPlace};
use crate::credentials::Secret;
use crate::tls::Tls;

/// For so long after an attempt that failed, nobody else is made to wait for another one.
const PAUSE: Duration = Duration::from_millis(250);

/// The connection that all calls share, while there is one.
pub(super) struct Link {
    config: RedisConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<(u64, MultiplexedConnection)>,
    /// Connections so far: a call that fails on an old one does not end the one after it.
    made: u64,
    failed: Option<(Instant, Refusal)>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(config: RedisConfig) -> Self {
        Self { config, state: Mutex::default() }
    }

    pub(super) fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The connection with its number. Callers wait while one of them dials, and share how that ended.
    pub(super) async fn connection(&self) -> Result<(u64, MultiplexedConnection), Refusal> {
        let mut state = self.state.lock().await;
        if let Some(connected) = &state.connection {
            return Ok(connected.clone());
        }
        if let Some((when, refusal)) = &state.failed
            && when.elapsed() < PAUSE
        {
            return Err(refusal.clone());
        }
        match self.within(self.dial()).await {
            Ok(connection) => {
                state.made += 1;
                state.failed = None;
                let connected = (state.made, connection);
                state.connection = Some(connected.clone());
                Ok(connected)
            }
            Err(refusal) => {
                tracing::warn!(place = %self.place(), code = refusal.code, "Redis cannot be reached");
                state.failed = Some((Instant::now(), refusal.clone()));
                Err(refusal)
            }
        }
    }

    /// How a call on the connection of that number ended.
    pub(super) async fn ending<T>(&self, number: u64, answer: RedisResult<T>) -> Ending<T> {
        let error = match answer {
            Ok(value) => return Ending::Applied(value),
            Err(error) => error,
        };
        if is_end(&error) {
            let mut state = self.state.lock().await;
            if state.connection.as_ref().is_some_and(|(current, _)| *current == number) {
                state.connection = None;
            }
        }
        refusal(&error).map_or(Ending::Unknown, Ending::Refused)
    }

    /// A connection of its own that listens to `channel`.
    pub(super) async fn listener(&self, channel: &str) -> Result<PubSub, Refusal> {
        self.within(async {
            let address = self.master().await?;
            let client = self.client(&address, self.config.password.as_ref())?;
            let mut listener = client.get_async_pubsub().await.map_err(|error| unreachable(&error))?;
            listener.subscribe(channel).await.map_err(|error| unreachable(&error))?;
            Ok(listener)
        })
        .await
    }

    async fn within<T>(&self, attempt: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let late = |_| Err(Refusal::new(RefusalKind::Unavailable, "TimedOut"));
        timeout(self.config.dial_time_max, attempt).await.unwrap_or_else(late)
    }

    async fn dial(&self) -> Result<MultiplexedConnection, Refusal> {
        let address = self.master().await?;
        let mut connection = self.connect(&address, self.config.password.as_ref()).await?;
        if matches!(self.config.place, RedisPlace::Sentinels { .. }) {
            // While they agree on another master, sentinels still name the old one, which knows better.
            let role: Vec<redis::Value> =
                cmd("ROLE").query_async(&mut connection).await.map_err(|error| unreachable(&error))?;
            if !matches!(role.first(), Some(redis::Value::BulkString(name)) if name == b"master") {
                return Err(Refusal::new(RefusalKind::Unavailable, "NotMaster"));
            }
        }
        Ok(connection)
    }

    async fn connect(
        &self,
        address: &RedisAddress,
        password: Option<&Secret>,
    ) -> Result<MultiplexedConnection, Refusal> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.dial_time_max))
            .set_response_timeout(Some(self.config.answer_time_max));
        self.client(address, password)?
            .get_multiplexed_async_connection_with_config(&settings)
            .await
            .map_err(|error| unreachable(&error))
    }

    fn client(&self, address: &RedisAddress, password: Option<&Secret>) -> Result<Client, Refusal> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = password {
            settings = settings.set_password(password.expose());
        }
        let (host, port) = (address.host.clone(), address.port);
        let place = match &self.config.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let info = place.into_connection_info().map(|info| info.set_redis_settings(settings));
        let client = info.and_then(|info| match &self.config.tls {
            None => Client::open(info),
            Some(tls) => Client::build_with_tls(info, certificates(tls)),
        });
        client.map_err(|_| Refusal::new(RefusalKind::Invalid, "InvalidRedisAddress"))
    }

    /// Where to write.
    async fn master(&self) -> Result<RedisAddress, Refusal> {
        let (addresses, name, password) = match &self.config.place {
            RedisPlace::Server(address) => return Ok(address.clone()),
            RedisPlace::Sentinels { addresses, name, password } => (addresses, name, password),
        };
        let mut last = Refusal::new(RefusalKind::Unavailable, "NoSentinel");
        for address in addresses {
            // One that does not answer leaves time for the others.
            let share = self.config.dial_time_max / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
            let asked = timeout(share, self.ask(address, name, password.as_ref())).await;
            match asked {
                Ok(Ok(master)) => return Ok(master),
                Ok(Err(refusal)) => last = refusal,
                Err(_) => last = Refusal::new(RefusalKind::Unavailable, "TimedOut"),
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        sentinel: &RedisAddress,
        name: &str,
        password: Option<&Secret>,
    ) -> Result<RedisAddress, Refusal> {
        let mut connection = self.connect(sentinel, password).await?;
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(name);
        let answer: RedisResult<Option<(String, u16)>> = question.query_async(&mut connection).await;
        match answer {
            Ok(Some((host, port))) => Ok(RedisAddress { host, port }),
            Ok(None) => Err(Refusal::new(RefusalKind::Unavailable, "UnknownMaster")),
            Err(error) => Err(unreachable(&error)),
        }
    }

    /// The place, for people.
    fn place(&self) -> String {
        match &self.config.place {
            RedisPlace::Server(address) => address.to_string(),
            RedisPlace::Sentinels { addresses, name, .. } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("{name} of {}", addresses.join(","))
            }
        }
    }
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let own = tls.identity().map(|own| ClientTlsConfig {
        client_cert: own.certificate.clone().into_bytes(),
        client_key: own.key.clone().into_bytes(),
    });
    TlsCertificates { client_tls: own, root_cert: tls.authorities().map(|text| text.as_bytes().to_vec()) }
}
