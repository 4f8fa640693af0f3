//! Copies with TLS on one end or both, between real sockets.

use rustls::pki_types::ServerName;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::relay::copy::tests::{close_lingering, connected, does_not_stand_still, is_acknowledged_at_once};
use crate::relay::tls::self_signed;

const SOON: Duration = Duration::from_secs(20);
const SIZE: usize = 3_000_000;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

fn configs() -> (TlsConnector, TlsAcceptor) {
    let (client, server) = self_signed();
    (client.into(), server.into())
}

/// What the peers of a copy hold: the client speaks TLS, the server speaks TLS or not.
struct Peers {
    client: TlsStream<Socket>,
    server: Either<TcpStream, TlsStream<TcpStream>>,
    moved: Arc<Moved>,
    copy: JoinHandle<(CopyEnd, u64, u64)>,
}

impl Peers {
    async fn new(server_tls: bool, lenient: bool, idle: Duration) -> Self {
        let ((client, our_client), (server, our_server)) = (connected().await, connected().await);
        let (connector, acceptor) = configs();
        let name = ServerName::try_from("ftp.example").unwrap();
        let theirs = connector.connect(name.clone(), Socket::new(client));
        let (client, our_client) = tokio::try_join!(theirs, acceptor.accept(Socket::new(our_client))).unwrap();
        let (server, our_server) = if server_tls {
            let theirs = acceptor.accept(server);
            let (server, ours) = tokio::try_join!(theirs, connector.connect(name, Socket::new(our_server))).unwrap();
            (Either::Right(TlsStream::from(server)), End::tls(ours, lenient))
        } else {
            (Either::Left(server), End::plain(our_server))
        };
        let moved = Arc::new(Moved::default());
        let counted = Arc::clone(&moved);
        let copy = tokio::spawn(async move {
            let end = copy_secured(End::tls(our_client, lenient), our_server, idle, &counted, |_| ()).await;
            (end, counted.up(), counted.down())
        });
        Self { client: client.into(), server, moved, copy }
    }
}

fn content() -> Vec<u8> {
    (0..SIZE).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

async fn read_all(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut got = Vec::new();
    soon("the end", from.read_to_end(&mut got)).await.map(|_| got)
}

#[tokio::test]
async fn a_download_ends_in_close_notify_and_needs_none_from_the_client() {
    for server_tls in [false, true] {
        let Peers { mut client, mut server, copy, .. } = Peers::new(server_tls, false, SOON).await;
        let sending = tokio::spawn(async move {
            server.write_all(&content()).await.unwrap();
            server.shutdown().await.unwrap();
            let _end = read_all(&mut server).await;
        });
        // rustls reports an end without close_notify as an error.
        assert!(read_all(&mut client).await.unwrap() == content());
        // As most clients end it: FIN, and nothing before.
        client.get_mut().0.shutdown().await.unwrap();
        assert_eq!(soon("the copy's end", copy).await.unwrap(), (CopyEnd::Complete, 0, SIZE as u64));
        soon("the server's end", sending).await.unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_ends_in_close_notify_is_complete() {
    for server_tls in [false, true] {
        let Peers { mut client, mut server, copy, .. } = Peers::new(server_tls, false, SOON).await;
        let sending = tokio::spawn(async move {
            client.write_all(&content()).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        assert!(read_all(&mut server).await.unwrap() == content());
        server.shutdown().await.unwrap();
        let _client = soon("the upload", sending).await.unwrap();
        assert_eq!(soon("the copy's end", copy).await.unwrap(), (CopyEnd::Complete, SIZE as u64, 0));
    }
}

#[tokio::test]
async fn rel_03_an_upload_without_close_notify_is_cut_unless_lenient() {
    for lenient in [false, true] {
        let Peers { mut client, mut server, copy, .. } = Peers::new(false, lenient, SOON).await;
        client.write_all(b"half a fi").await.unwrap();
        client.flush().await.unwrap();
        client.get_mut().0.shutdown().await.unwrap();
        let at_server = read_all(&mut server).await;
        if lenient {
            assert_eq!(at_server.unwrap(), b"half a fi");
            server.shutdown().await.unwrap();
            assert_eq!(soon("the copy's end", copy).await.unwrap(), (CopyEnd::Complete, 9, 0));
        } else {
            assert_eq!(at_server.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(soon("the copy's end", copy).await.unwrap().0, CopyEnd::Reset(Leg::Client));
        }
    }
}

/// pyftpdlib does it when there is nothing to send.
#[tokio::test]
async fn rel_03_a_download_without_close_notify_is_cut_unless_lenient() {
    for lenient in [false, true] {
        let Peers { mut client, mut server, copy, .. } = Peers::new(true, lenient, SOON).await;
        let Either::Right(server_tls) = &mut server else { panic!("it speaks TLS") };
        server_tls.get_mut().0.shutdown().await.unwrap();
        let at_client = read_all(&mut client).await;
        if lenient {
            assert_eq!(at_client.unwrap(), b"");
            client.shutdown().await.unwrap();
            assert_eq!(soon("the copy's end", copy).await.unwrap(), (CopyEnd::Complete, 0, 0));
        } else {
            assert_eq!(at_client.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(soon("the copy's end", copy).await.unwrap().0, CopyEnd::Reset(Leg::Server));
        }
    }
}

#[tokio::test]
async fn rel_01_a_reset_is_passed_on() {
    let Peers { client, mut server, copy, .. } = Peers::new(false, true, SOON).await;
    client.get_ref().0.stream.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(read_all(&mut server).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(soon("the copy's end", copy).await.unwrap().0, CopyEnd::Reset(Leg::Client));
}

#[tokio::test]
async fn rel_01_a_reset_amid_an_upload_is_passed_on_once_the_server_reads() {
    let Peers { mut client, mut server, copy, .. } = Peers::new(false, false, SOON).await;
    let blocked = tokio::time::timeout(Duration::from_millis(500), async {
        loop {
            client.write_all(&[0; 65536]).await.unwrap();
        }
    });
    blocked.await.unwrap_err();
    client.get_ref().0.stream.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(read_all(&mut server).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(soon("the copy's end", copy).await.unwrap().0, CopyEnd::Reset(Leg::Client));
}

/// As curl ends its uploads over TLS 1.3: close_notify, and a reset because it leaves our ticket unread.
#[tokio::test]
async fn rel_04_a_reset_behind_close_notify_takes_nothing_back() {
    for server_tls in [false, true] {
        let Peers { mut client, mut server, copy, .. } = Peers::new(server_tls, false, SOON).await;
        // Small enough to be in our socket, so that nothing but the reset is left to come.
        let upload = &content()[..40_000];
        client.write_all(upload).await.unwrap();
        client.get_mut().1.send_close_notify();
        client.flush().await.unwrap();
        client.get_ref().0.stream.set_zero_linger().unwrap();
        drop(client);
        assert!(read_all(&mut server).await.unwrap() == upload);
        // Its tickets are still to come.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!copy.is_finished(), "the server was not read to its end");
        server.shutdown().await.unwrap();
        assert_eq!(soon("the copy's end", copy).await.unwrap(), (CopyEnd::Complete, 40_000, 0));
    }
}

#[tokio::test]
async fn the_end_of_a_download_is_acknowledged_at_once() {
    for server_tls in [false, true] {
        is_acknowledged_at_once(async || {
            let Peers { client, mut server, copy, .. } = Peers::new(server_tls, false, SOON).await;
            server.write_all(&[7; 1024]).await.unwrap();
            let server = match server {
                Either::Left(stream) => stream,
                Either::Right(TlsStream::Client(_)) => unreachable!("it is a server"),
                Either::Right(TlsStream::Server(mut tls)) => {
                    tls.get_mut().1.send_close_notify();
                    tls.flush().await.unwrap();
                    tls.into_inner().0
                }
            };
            (close_lingering(server).await, (client, copy))
        })
        .await;
    }
}

#[tokio::test]
async fn rel_17_the_sender_does_not_stand_still_for_long_while_a_slow_receiver_reads() {
    for server_tls in [false, true] {
        let Peers { client, server, moved, copy } = Peers::new(server_tls, false, SOON).await;
        does_not_stand_still(client, server, copy, &moved).await;
    }
}

#[tokio::test]
async fn rel_19_silence_resets_both() {
    let Peers { mut client, mut server, copy, .. } = Peers::new(true, false, Duration::from_millis(300)).await;
    assert_eq!(soon("the copy's end", copy).await.unwrap().0, CopyEnd::Idle);
    for end in [read_all(&mut client).await, read_all(&mut server).await] {
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

/// Our end of a handshake whose client resets the connection before the ticket that ends it has been written, and with
/// `notice` says close_notify before.
async fn shaken_with_a_client_that_is_gone(notice: bool) -> tokio_rustls::server::TlsStream<Socket> {
    let (client, our_client) = connected().await;
    // A reset takes back what Nagle's algorithm still holds.
    client.set_nodelay(true).unwrap();
    let (connector, acceptor) = configs();
    let name = ServerName::try_from("ftp.example").unwrap();
    let mut ours = Box::pin(acceptor.accept(Socket::handshaking(our_client)));
    let theirs = async {
        let mut client = connector.connect(name, Socket::new(client)).await.unwrap();
        if notice {
            client.get_mut().1.send_close_notify();
            client.flush().await.unwrap();
        }
        client.get_ref().0.stream.set_zero_linger().unwrap();
    };
    // Ours does not go on before the client is gone.
    tokio::select! {
        biased;
        () = theirs => {}
        _ = &mut ours => panic!("without the client's last flight"),
    }
    let ours = soon("the handshake", ours).await.unwrap();
    ours.get_ref().0.shaken();
    ours
}

/// As curl uploads an empty file over TLS 1.3.
#[tokio::test]
async fn rel_04_a_client_that_is_gone_by_the_end_of_the_handshake_has_said_all() {
    let mut ours = shaken_with_a_client_that_is_gone(true).await;
    assert_eq!(soon("close_notify", ours.read(&mut [0; 1])).await.unwrap(), 0);
    assert!(ours.write_all(b"x").await.is_err() || ours.flush().await.is_err(), "forgiven for good");
}

/// A reset that was forgiven for the handshake's sake is not the end of a file, not even where FIN is.
#[tokio::test]
async fn rel_03_a_reset_in_the_handshake_is_no_end_of_an_upload_that_may_end_in_fin() {
    let ours = shaken_with_a_client_that_is_gone(false).await;
    let (mut server, our_server) = connected().await;
    let copy = tokio::spawn(async move {
        copy_secured(End::tls(ours, true), End::plain(our_server), SOON, &Moved::default(), |_| ()).await
    });
    assert_eq!(read_all(&mut server).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(soon("the copy's end", copy).await.unwrap(), CopyEnd::Reset(Leg::Client));
}
