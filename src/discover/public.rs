//! The public address of this machine, for `announce: auto`: asked for before anybody is served, then now and again.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tokio::time::{Instant, MissedTickBehavior};

use super::dmi::{self, Dmi};
use super::http::{Ask, Failure, send};
use super::reply;
use super::service::{Answer, Question, Service, Token};
use crate::config::discovery::{Endpoint, Provider, Source};
use crate::config::{Config, Listener};
use crate::nat::map::{Announce, ResolvedName};

/// How long a service that cannot be reached, or is not ready, is asked again at the start: at boot the network may come
/// after us. One that answers without an address will have none in a moment either.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two attempts then.
const PAUSE: Duration = Duration::from_millis(500);

/// An address, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose metadata service.
    pub provider: Provider,
    /// Where it said so.
    pub url: String,
}

/// Why the public address is not known.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Nobody has been asked.
    #[error(
        "cannot find the public address for `announce: auto`: this machine is in none of the clouds that are known, or \
         hides it ({dmi}); write the public address, or a DNS name that points to it, in place of `auto`; or name the \
         cloud, like `discovery: {{ provider: aliyun }}`"
    )]
    UnknownMachine {
        /// What its firmware says.
        dmi: String,
    },
    /// The cloud was asked and gave none.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
}

/// All that a metadata service was asked, in vain.
#[derive(Debug, thiserror::Error)]
pub struct NoAddress {
    provider: Provider,
    attempts: Vec<Attempt>,
    advice: Option<&'static str>,
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot find the public address for `announce: auto`; {} was asked", self.provider)?;
        for attempt in &self.attempts {
            write!(f, "\n  {attempt}")?;
        }
        f.write_str("\n")?;
        if let Some(advice) = self.advice {
            write!(f, "{advice}; or ")?;
        }
        f.write_str("write the public address, or a DNS name that points to it, in place of `auto`")
    }
}

impl NoAddress {
    /// Every request, for one line of the log.
    fn asked(&self) -> String {
        self.attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Whether it is worth asking again in a moment.
    fn may_pass(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.failure.may_pass())
    }
}

#[derive(Debug)]
struct Attempt {
    method: Method,
    url: String,
    failure: Failure,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.method, self.url, self.failure)
    }
}

/// Everything in a configuration that announces the public address, and whom to ask for it.
#[derive(Debug)]
pub struct PublicAddress {
    names: Vec<Arc<ResolvedName>>,
    provider: Provider,
    endpoint: Endpoint,
    /// The control ports of those who announce it.
    ports: Vec<u16>,
    refresh: Duration,
}

impl PublicAddress {
    /// `None` if nothing announces it. Sends nothing; the firmware's tables are read unless the file says whom to ask.
    ///
    /// # Errors
    /// It is not known whom to ask.
    pub fn of(config: &Config) -> Result<Option<Self>, DiscoverError> {
        Self::on(Path::new(dmi::ROOT), config)
    }

    fn on(dmi: &Path, config: &Config) -> Result<Option<Self>, DiscoverError> {
        let users: Vec<(&Listener, Vec<Arc<ResolvedName>>)> = config
            .listeners
            .iter()
            .map(|listener| (listener, names(listener)))
            .filter(|(_, n)| !n.is_empty())
            .collect();
        if users.is_empty() {
            return Ok(None);
        }
        let (provider, endpoint) = match &config.discovery.source {
            Some(Source { provider, endpoint }) => (*provider, endpoint.clone()),
            None => {
                let dmi = Dmi::read(dmi);
                let unknown = || DiscoverError::UnknownMachine { dmi: dmi.to_string() };
                (dmi.provider().ok_or_else(unknown)?, None)
            }
        };
        Ok(Some(Self {
            ports: users.iter().flat_map(|(listener, _)| listener.bind.iter().map(|addr| addr.port())).collect(),
            names: users.into_iter().flat_map(|(_, names)| names).collect(),
            provider,
            endpoint: endpoint.unwrap_or_else(|| Service::of(provider).endpoint()),
            refresh: config.discovery.refresh,
        }))
    }

    /// Asks once; what is found is announced from now on, and what is not changes nothing.
    ///
    /// # Errors
    /// There is no usable address.
    pub async fn find(&self) -> Result<Found, DiscoverError> {
        Ok(self.ask().await.inspect(|found| self.announce(found))?)
    }

    /// As [`find`](Self::find), with some patience for a network or a service that is not there yet.
    ///
    /// # Errors
    /// There is no usable address, or nobody to ask.
    pub async fn find_first(&self) -> Result<Found, DiscoverError> {
        let end = Instant::now() + PATIENCE;
        let mut is_first = true;
        loop {
            match self.ask().await {
                Ok(found) => {
                    self.announce(&found);
                    return Ok(found);
                }
                Err(error) if error.may_pass() && Instant::now() < end => {
                    if is_first {
                        tracing::info!(asked = error.asked(), "no public address yet; asking again for a while");
                    }
                    is_first = false;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// For a configuration that takes the place of an `earlier` one: what was known serves on where nothing is found now.
    ///
    /// # Errors
    /// There is no usable address, and none was known.
    pub async fn find_anew(&self, earlier: Option<&Self>) -> Result<(), DiscoverError> {
        let known = earlier.and_then(|earlier| earlier.names.first()).map(|name| name.addresses()).unwrap_or_default();
        match self.find().await {
            Err(error) if known.is_empty() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the public address stays what it was");
                for name in &self.names {
                    name.set(known.clone());
                }
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Follows the address, for ever. While nothing is found the last one stays: a service that fails for a minute
    /// must not take a working address away.
    pub async fn refresh(&self) {
        let mut ticks = tokio::time::interval(self.refresh);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is immediate, and that request has just been made.
        ticks.tick().await;
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            match self.ask().await {
                Ok(found) => {
                    if is_failing {
                        tracing::info!(address = %found.address, "there is a public address again");
                    }
                    is_failing = false;
                    self.announce(&found);
                }
                Err(error) => {
                    let asked = error.asked();
                    if is_failing {
                        tracing::debug!(asked, "still no public address; the last one stays");
                    } else {
                        tracing::warn!(asked, "no public address any more; the last one stays");
                    }
                    is_failing = true;
                }
            }
        }
    }

    fn announce(&self, found: &Found) {
        let changed = self.names.iter().fold(false, |changed, name| name.set(vec![found.address.into()]) | changed);
        if changed {
            let Found { address, provider, url } = found;
            tracing::info!(%address, %provider, url, "public address, announced from now on");
        }
    }

    async fn ask(&self) -> Result<Found, NoAddress> {
        let service = Service::of(self.provider);
        let mut attempts = Vec::new();
        let in_vain = |attempts, advice| NoAddress { provider: self.provider, attempts, advice };
        let mut token = None;
        if let Some(wanted) = &service.token {
            match self.token(wanted).await {
                Ok(secret) => token = Some((wanted.field, secret)),
                Err(attempt) => {
                    let is_silence = attempt.failure.is_silence();
                    attempts.push(attempt);
                    if is_silence || !wanted.is_optional {
                        return Err(in_vain(attempts, wanted.if_silent.filter(|_| is_silence)));
                    }
                }
            }
        }
        for question in service.questions {
            match self.question(question, token.as_ref()).await {
                Ok((address, url)) => return Ok(Found { address, provider: self.provider, url }),
                Err(attempt) => {
                    let is_nothing = matches!(attempt.failure, Failure::Nothing(_));
                    attempts.push(attempt);
                    // Only "there is none" leads on: a service that fails for a moment must not make us announce
                    // another address of the machine.
                    if !is_nothing {
                        return Err(in_vain(attempts, None));
                    }
                }
            }
        }
        Err(in_vain(attempts, Some(service.advice)))
    }

    async fn token(&self, token: &Token) -> Result<HeaderValue, Attempt> {
        let (name, seconds) = token.lifetime;
        let headers = vec![(name, HeaderValue::from_static(seconds))];
        let text = self.send(Method::PUT, token.path, headers).await?;
        HeaderValue::try_from(text).map_err(|_| {
            self.attempt(Method::PUT, token.path, Failure::Unusable("no token, but something else".into()))
        })
    }

    async fn question(
        &self,
        question: &Question,
        token: Option<&(&'static str, HeaderValue)>,
    ) -> Result<(Ipv4Addr, String), Attempt> {
        let headers: Vec<(&'static str, HeaderValue)> = question
            .headers
            .iter()
            .map(|(name, value)| (*name, HeaderValue::from_static(value)))
            .chain(token.cloned())
            .collect();
        if let Some(condition) = question.only_if {
            let text = self.send(Method::GET, condition, headers.clone()).await?;
            let failure = match text.as_str() {
                "true" => None,
                "false" => Some(Failure::Nothing(StatusCode::OK)),
                _ => Some(Failure::Unusable("neither true nor false".into())),
            };
            if let Some(failure) = failure {
                return Err(self.attempt(Method::GET, condition, failure));
            }
        }
        let text = self.send(Method::GET, question.path, headers).await?;
        let address = match question.answer {
            Answer::Text => reply::address(&text),
            Answer::LoadBalancer => reply::frontend(&text, &self.ports)
                .and_then(|frontend| frontend.ok_or(Failure::Nothing(StatusCode::OK))),
        };
        let address = address.map_err(|failure| self.attempt(Method::GET, question.path, failure))?;
        Ok((address, self.url(question.path)))
    }

    async fn send(
        &self,
        method: Method,
        path: &'static str,
        headers: Vec<(&'static str, HeaderValue)>,
    ) -> Result<String, Attempt> {
        let ask = Ask { method: method.clone(), endpoint: &self.endpoint, path, headers };
        send(ask).await.map_err(|failure| self.attempt(method, path, failure))
    }

    fn attempt(&self, method: Method, path: &str, failure: Failure) -> Attempt {
        Attempt { method, url: self.url(path), failure }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }
}

/// Every place of a listener that announces the public address.
fn names(listener: &Listener) -> Vec<Arc<ResolvedName>> {
    [&listener.client.address_map, &listener.server.address_map]
        .into_iter()
        .flat_map(|map| map.rules())
        .filter_map(|rule| match &rule.announce {
            Announce::Auto(name) => Some(Arc::clone(name)),
            Announce::Address(_)
            | Announce::PerFamily(..)
            | Announce::Local
            | Announce::ControlAddress
            | Announce::Name(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(announce: &str, discovery: &str) -> Config {
        let yaml = format!(
            "listeners: [{{ bind: \"127.0.0.1:2121\", upstream: \"127.0.0.2:21\", client: {{ address_map: \
             [{{ peers: any, announce: {announce} }}], data_ports: 20000 }} }}]\ndiscovery: {{ {discovery} }}\n"
        );
        Config::parse(&yaml, "test.yaml").unwrap()
    }

    /// What is asked is decided by the firmware, or the file, alone.
    #[test]
    fn the_file_goes_before_the_firmware_and_without_either_nobody_is_asked() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("product_name"), "Google Compute Engine\n").unwrap();
        let of = |root: &Path, discovery: &str| {
            PublicAddress::on(root, &config("auto", discovery))
                .map(|found| found.map(|public| (public.provider, public.endpoint.to_string())))
        };
        let gcp = (Provider::Gcp, "http://metadata.google.internal".into());
        assert_eq!(of(root.path(), "").unwrap(), Some(gcp));
        let aliyun = (Provider::Aliyun, "http://100.100.100.200".into());
        assert_eq!(of(root.path(), "provider: aliyun").unwrap(), Some(aliyun));
        let named = (Provider::Aws, "http://[fd00:ec2::254]".into());
        assert_eq!(of(root.path(), "provider: aws, endpoint: \"http://[fd00:ec2::254]\"").unwrap(), Some(named));

        let nowhere = of(&root.path().join("nothing"), "").unwrap_err().to_string();
        assert!(nowhere.contains("says nothing") && nowhere.contains("in place of `auto`"), "{nowhere}");
        assert!(PublicAddress::on(root.path(), &config("203.0.113.10", "")).unwrap().is_none());
    }

    #[test]
    fn the_requests_of_every_service_can_be_sent() {
        for provider in Provider::ALL {
            let service = Service::of(provider);
            let paths = service.questions.iter().flat_map(|question| [Some(question.path), question.only_if]).flatten();
            for path in paths.chain(service.token.as_ref().map(|token| token.path)) {
                assert!(path.starts_with('/') && path.parse::<hyper::Uri>().is_ok(), "{path}");
            }
            let fields = service.questions.iter().flat_map(|question| question.headers.iter().map(|(name, _)| *name));
            let token = service.token.as_ref().map(|token| [token.field, token.lifetime.0]);
            for field in fields.chain(token.into_iter().flatten()) {
                assert!(hyper::header::HeaderName::try_from(field).is_ok(), "{field}");
            }
        }
    }
}
