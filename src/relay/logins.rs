//! Failed logins: those of one client address are slowed down and then refused, so that guessing passwords is slow,
//! and so that a server that bans addresses for it has no reason to. To the server every client has our address; its
//! ban would hit them all.
//!
//! ```text
//!   failures of an address in 10 minutes   0 ……… limit ……………… 2 × limit
//!                                          at once │ one at a time,  │ refused until
//!                                                  │ 5 s after each  │ the 10 minutes end
//! ```
//!
//! A login is counted as under way before the server sees it, so that a hundred at once are no way round.

mod table;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use self::table::{Crossed, DELAY, Due, Table, WINDOW};

/// The logins of a listener's clients.
#[derive(Debug)]
pub(super) struct Logins {
    listener: String,
    table: Mutex<Table>,
}

/// What becomes of a login.
#[derive(Debug)]
pub(super) enum Answer {
    Permitted,
    Refused,
    /// It has to [wait](Attempts::wait).
    NotYet,
}

impl Logins {
    /// `limit` is `limits.login_failures`.
    pub(super) fn new(listener: &str, limit: u32) -> Arc<Self> {
        Arc::new(Self { listener: listener.to_owned(), table: Mutex::new(Table::new(limit)) })
    }

    /// From now on `limits.login_failures` is this. What has failed counts on.
    pub(super) fn limit_to(&self, limit: u32) {
        self.table().limit_to(limit);
    }

    /// Whether no login of this client would be let through.
    pub(super) fn is_refused(&self, client: IpAddr) -> bool {
        self.table().is_refused(client, Instant::now())
    }

    fn answered(&self, client: IpAddr, failed: bool) {
        let crossed = self.table().answered(client, failed, Instant::now());
        let (listener, minutes) = (&self.listener, WINDOW.as_secs() / 60);
        match crossed {
            Some(Crossed::Slow) => {
                tracing::warn!(%listener, %client, "failed logins: each further one waits {} s", DELAY.as_secs());
            }
            Some(Crossed::Refused) => tracing::warn!(
                %listener, %client, "failed logins: refused until {minutes} minutes after the first"
            ),
            None => {}
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing under this lock can fail half way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logins of one session that the server has not answered. Dropped, they have not happened.
#[derive(Debug)]
pub(super) struct Attempts {
    logins: Arc<Logins>,
    client: IpAddr,
    under_way: u32,
}

impl Attempts {
    pub(super) fn new(logins: &Arc<Logins>, client: IpAddr) -> Self {
        Self { logins: Arc::clone(logins), client, under_way: 0 }
    }

    /// Asks for a login. One that is permitted is under way from now on.
    pub(super) fn ask(&mut self) -> Answer {
        let due = self.logins.table().attempt(self.client, Instant::now());
        match due {
            Due::Now => {
                self.under_way += 1;
                Answer::Permitted
            }
            Due::Later(_) => Answer::NotYet,
            Due::Never => Answer::Refused,
        }
    }

    /// Waits until it is worth asking again. Cancel safe.
    pub(super) fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let (logins, client) = (Arc::clone(&self.logins), self.client);
        async move {
            // Under the lock, so that no change is missed.
            let waiting = {
                let table = logins.table();
                table.wait(client, Instant::now()).map(|(at, changed)| (at, Notify::notified_owned(changed)))
            };
            if let Some((at, changed)) = waiting {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                }
            }
        }
    }

    /// The server has answered one.
    pub(super) fn answered(&mut self, failed: bool) {
        if self.under_way > 0 {
            self.under_way -= 1;
            self.logins.answered(self.client, failed);
        }
    }

    /// No answer will come any more. If the client left without waiting for them, the server may count failures all the
    /// same, so we do.
    pub(super) fn end(&mut self, client_left: bool) {
        while self.under_way > 0 {
            self.answered(client_left);
        }
    }
}

/// For a session that ends by a panic.
impl Drop for Attempts {
    fn drop(&mut self) {
        self.end(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Asks until there is an answer; true if the login may go out.
    async fn permitted(attempts: &mut Attempts) -> bool {
        loop {
            match attempts.ask() {
                Answer::Permitted => return true,
                Answer::Refused => return false,
                Answer::NotYet => attempts.wait().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sec_25_a_hundred_at_once_are_slowed_down_and_then_refused() {
        let logins = Logins::new("ftp", 3);
        let start = Instant::now();
        let guess = |logins: Arc<Logins>| async move {
            let mut attempts = Attempts::new(&logins, CLIENT);
            let sent = permitted(&mut attempts).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            attempts.answered(true);
            sent
        };
        let guesses: Vec<_> = (0..100).map(|_| tokio::spawn(guess(Arc::clone(&logins)))).collect();
        let mut sent = 0;
        for guess in guesses {
            sent += usize::from(guess.await.unwrap());
        }
        assert_eq!(sent, 6);
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        assert!(logins.is_refused(CLIENT));
        let mut other = Attempts::new(&logins, [192, 0, 2, 2].into());
        assert!(matches!(other.ask(), Answer::Permitted));
    }

    /// An office in the morning: many at once, and all with the right password.
    #[tokio::test(start_paused = true)]
    async fn sec_25_a_crowd_that_logs_in_waits_for_each_other_and_no_longer() {
        let logins = Logins::new("ftp", 3);
        let start = Instant::now();
        let log_in = |logins: Arc<Logins>| async move {
            let mut attempts = Attempts::new(&logins, CLIENT);
            assert!(permitted(&mut attempts).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
            attempts.answered(false);
        };
        let all: Vec<_> = (0..60).map(|_| tokio::spawn(log_in(Arc::clone(&logins)))).collect();
        for one in all {
            one.await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1), "six at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn sec_25_who_leaves_without_an_answer_has_failed_and_a_session_that_ends_has_not() {
        let logins = Logins::new("ftp", 3);
        for _ in 0..10 {
            let mut attempts = Attempts::new(&logins, CLIENT);
            assert!(matches!(attempts.ask(), Answer::Permitted));
        }
        for _ in 0..3 {
            let mut attempts = Attempts::new(&logins, CLIENT);
            assert!(matches!(attempts.ask(), Answer::Permitted));
            attempts.end(true);
        }
        assert!(matches!(Attempts::new(&logins, CLIENT).ask(), Answer::NotYet));
    }
}
