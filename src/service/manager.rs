//! What systemd, or whatever else has started us with `NOTIFY_SOCKET`, is told (sd_notify(3)). Without one nothing is said.

use sd_notify::NotifyState;

/// It serves; `status` is shown by `systemctl status`.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It reads its configuration; [`ready`] follows, whatever comes of it. `Type=notify-reload` waits for that, and tells
/// this message from earlier ones by its time.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reading the configuration again")]),
        Err(error) => tracing::warn!(%error, "cannot tell the service manager the time of a reload"),
    }
}

/// It lets transfers finish.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: transfers may finish")]);
}

/// Tells a watchdog (`WatchdogSec=`), twice in its time, that the runtime still runs tasks; this is one of them.
pub(super) fn feed_watchdog() {
    let Some(time) = sd_notify::watchdog_enabled().filter(|time| !(*time / 2).is_zero()) else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(time / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    });
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager how we are");
    }
}
