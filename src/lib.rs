//! ftp-alg: a transparent FTP-aware NAT/ALG proxy.
//!
//! It stands in front of an FTP server that nobody may change, or in front of clients that nobody may change, reads
//! the control connection, puts addresses that work in place of those that do not, and carries the data connections
//! through a few fixed ports.
//!
//! ```text
//!     client ──control──▶ [ client leg | Session | server leg ] ──control──▶ server
//!     client ◀──data────▶ [ client end |  copy   | server end ] ◀──data────▶ server
//! ```
//!
//! A [`Leg`](addr::Leg) is one of the two control connections; whatever exists twice is configured and coded once per
//! leg. A data channel has two ends, and an end either *accepts* (we announced an address and wait) or *dials* (the
//! peer announced one). PASV makes the client end accept, PORT makes it dial; what the server end does follows from
//! `server.data_mode`. So every combination of modes, families and deployments is one mechanism.
//!
//! # Layers
//!
//! Imports go down this list only (`tests/tidy.rs` checks it), and bytes go one way through it: bytes → lines →
//! commands → session → actions → sockets.
//!
//! | module | what | pure |
//! |---|---|---|
//! | `main`, `cli` | arguments, log, exit codes | |
//! | [`service`] | from the start to the end: signals, reload, the service manager | |
//! | [`privileges`] | what the process may do | |
//! | [`discover`] | what is announced, found out now and again: names, the public address | |
//! | [`admin`] | metrics, health and live sessions, over HTTP | |
//! | [`relay`] | the shell: sockets, tasks, copying | |
//! | [`metrics`] | what is counted, and its names | |
//! | [`config`] | `proxy.yaml`, valid by construction | |
//! | [`session`] | the state machine of one FTP session | yes |
//! | [`ftp`] | the wire: lines, commands, replies, addresses in them | yes |
//! | [`nat`] | what to announce, what may be dialled | yes |
//! | [`proxy_protocol`] | what a load balancer says of a connection | yes |
//! | [`addr`] | addresses by the part that they play | yes |
//!
//! Pure means: no sockets, no files, no tasks and no clock; `now` is passed in. What goes wrong with FTP middleboxes
//! goes wrong in their control plane, so that part can be tested at every split point of its input.
//!
//! # Threats
//!
//! * A client makes us connect to a third party (bounce): only [`Policy::vet`](nat::policy::Policy::vet) makes a
//!   [`DialTarget`](nat::policy::DialTarget), and nothing else can be dialled.
//! * A server names a third party: its reply's address is never used, [`Policy::vet_server`](nat::policy::Policy::vet_server).
//! * A client chooses a server that is none of its business, or ourselves: [`nat::destinations`], and loops are looked for
//!   before and after connecting (`relay::upstream`).
//! * Somebody else takes a data connection: a lease in [`relay::ports`] belongs to a port *and* a peer
//!   (`client.data_peer` and `server.data_peer` can widen that). Ports that are passed through know only addresses:
//!   `relay::passthrough`.
//! * Somebody pretends to be another client of a load balancer: headers come from trusted addresses only, and are required
//!   there, see `relay::gate`.
//! * One client takes everything: sessions are counted by address in `relay::admission`, descriptors before anything is
//!   served in `relay::descriptors`.
//! * A web page, or a flood, on the admin interface: see [`admin`].
//! * Somebody guesses passwords, and the server bans us for it: `relay::logins`.
//! * TLS that ends early, or that somebody else goes on with: see [`relay::tls`].
//! * Somebody who is not the cloud says what our public address is: the firmware tells whether there is a cloud to ask
//!   before anything is sent, and only public addresses are believed, see [`discover`].
//! * Somebody takes the process over: with `landlock` it can bind, connect to, read and write what its configuration needs
//!   and nothing else, see `privileges::confinement`.
//! * Text that looks like a reply, a web page that looks like a command: see [`session`] and [`ftp`].
//! * Text is slipped across a switch to TLS: nothing may lie behind the command that asks for it, see [`session`].
//! * A cut transfer that looks complete: every data socket resets unless it ended well, see [`relay::copy`], and no
//!   success is passed on before the data, see [`session`].

pub mod addr;
pub mod admin;
pub mod cli;
pub mod config;
pub mod discover;
pub mod ftp;
pub mod metrics;
pub mod nat;
pub mod privileges;
pub mod proxy_protocol;
pub mod relay;
pub mod service;
pub mod session;

pub use service::{RunError, Service};
