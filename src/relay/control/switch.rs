//! Turning control connections over: to TLS and back, to another connection, or to the two peers themselves.

use std::sync::Arc;

use super::Control;
use crate::addr::{Leg, PerLeg};
use crate::relay::channel::Order;
use crate::relay::encryption::Keys;
use crate::relay::socket;
use crate::relay::upstream::{ConnectError, own_addresses};
use crate::relay::wire::Wire;
use crate::session::{ChannelId, Destination, Event};

impl Control {
    /// Begins a handshake, as the client's server or the server's client.
    pub(super) fn start_tls(&mut self, leg: Leg) {
        let begun = match leg {
            Leg::Client => self.start_tls_with_client(),
            Leg::Server => self.start_tls_with_server(),
        };
        if begun.is_none() {
            self.handle(Event::TlsFailed { leg });
        }
    }

    fn start_tls_with_client(&mut self) -> Option<()> {
        let keys = self.shared.encryption.client.as_ref()?.session();
        let keys = keys.inspect_err(|error| tracing::error!(%error, "no TLS session can be made")).ok()?;
        let keys = self.keys.client.insert(keys.into());
        // CCC and REIN lead back to plain text, which must not be taken for TLS.
        self.client.start_tls(keys.control(), true);
        Some(())
    }

    fn start_tls_with_server(&mut self) -> Option<()> {
        let name = self.seat.as_ref()?.server_name();
        let keys = self.shared.encryption.server.as_ref()?.session(name)?;
        let keys = self.keys.server.insert(keys.into());
        self.server.as_mut()?.0.start_tls(keys.control(), false);
        Some(())
    }

    /// Goes back to plain text. Data connections go on as they were.
    pub(super) fn stop_tls(&mut self, leg: Leg) {
        if let Some(wire) = self.wire(leg) {
            wire.leave_tls();
        }
        self.live.tls(leg, None);
    }

    /// Tells the session what has become of a handshake.
    pub(super) fn handshake(&mut self, leg: Leg) {
        match self.wire(leg).and_then(Wire::handshake) {
            Some(Ok(())) => {
                if let Some(name) = self.client.server_name().filter(|_| leg == Leg::Client) {
                    self.handle(Event::NameExpected { name: &name });
                }
                let version = self.wire(leg).and_then(|wire| wire.tls_version());
                self.shared.metrics.secured(leg, version.unwrap_or_default());
                self.live.tls(leg, version);
                self.handle(Event::TlsReady { leg });
            }
            Some(Err(error)) => {
                self.journal.no_tls(leg, &error);
                self.shared.metrics.no_tls(leg);
                self.handle(Event::TlsFailed { leg });
            }
            None => {}
        }
    }

    /// Opens a connection to the server. One that there is is closed in good order, aside.
    pub(super) fn connect(&mut self, to: &Destination) {
        self.keys.server = None;
        self.live.server(None);
        if let Some((wire, _)) = self.server.take() {
            self.shared.process.tasks.spawn(wire.finish(self.shared.config.timeouts.close));
        }
        let intercepts = self.shared.config.upstream.intercepts();
        let dialled = if intercepts {
            socket::original_destination(self.client.stream(), self.client_at.local)
        } else {
            self.client_at.local
        };
        let upstream = self.shared.directory.find(to, dialled);
        // Another connection of this session goes to the same server: it has begun something there.
        let before = self.seat.take().filter(|seat| seat.is_in(&upstream));
        self.upstream = Some(Arc::clone(&upstream));
        let is_ours = intercepts && own_addresses().contains(&self.client_at.peer.ip());
        self.connecting = Some(if is_ours {
            // Our own connection to a server, led back to us by a rule that should leave it alone.
            Box::pin(async { Err(ConnectError::Loop) })
        } else {
            let client = *self.client_at;
            Box::pin(async move { upstream.connect(client, before).await })
        });
    }

    /// The session hands bytes on unread from now on. Its client may use the ports that are passed through.
    pub(super) fn pass_through(&mut self) {
        self.passed =
            self.server.as_ref().map(|(_, at)| Box::new(self.shared.passed.enter(self.client_at.peer.ip(), *at)));
    }

    /// A transfer begins.
    pub(super) fn begin(&mut self, id: ChannelId, protect: PerLeg<bool>) {
        let keys = Keys {
            client: self.keys.client.clone().filter(|_| protect.client),
            server: self.keys.server.clone().filter(|_| protect.server),
        };
        if protect.client != keys.client.is_some() || protect.server != keys.server.is_some() {
            // Never in the clear what should not be.
            tracing::error!(?protect, "a data connection should be encrypted, and nothing is there to do it");
            return self.channels.close(id);
        }
        self.order(id, Order::Begin(keys));
    }
}
