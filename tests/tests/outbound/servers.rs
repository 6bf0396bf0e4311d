//! Servers in a test's network, on threads of this process that end with it; started by the cases.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::network::Namespace;
use rustix::net::sockopt::set_socket_linger;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

/// Where the servers of a network listen.
pub(crate) struct Ports {
    pub(crate) tcp: String,
    pub(crate) udp: String,
    pub(crate) http: String,
}

/// Servers that have a word for everybody: by TCP and UDP behind what they were sent, by HTTP as the body.
pub(crate) fn serve(namespace: &Namespace, word: &'static str) -> Result<Ports> {
    let (tcp, tcp_port) = listen(namespace)?;
    let (http, http_port) = listen(namespace)?;
    let udp = namespace.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let udp_port = udp.local_addr()?.port().to_string();
    thread::spawn(move || tcp.incoming().flatten().for_each(|stream| drop(echo(stream, word))));
    thread::spawn(move || {
        http.incoming().flatten().for_each(|mut stream| drop(answer(&mut stream, word)))
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            // A guest that is gone needs no answer.
            udp.send_to(&[&buffer[..length], word.as_bytes()].concat(), from).ok();
        }
    });
    Ok(Ports { tcp: tcp_port, udp: udp_port, http: http_port })
}

/// HTTPS with that word; gives its port.
pub(crate) fn serve_tls(
    namespace: &Namespace,
    config: Arc<ServerConfig>,
    word: &'static str,
) -> Result<String> {
    Ok(serve_tls_counted(namespace, config, word)?.0)
}

/// The same; gives the number of resumed sessions, too.
pub(crate) fn serve_tls_counted(
    namespace: &Namespace,
    config: Arc<ServerConfig>,
    word: &'static str,
) -> Result<(String, Arc<AtomicUsize>)> {
    let (listener, port) = listen(namespace)?;
    let resumed = Arc::<AtomicUsize>::default();
    let counted = resumed.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(connection) = ServerConnection::new(config.clone()) else { return };
            let mut stream = StreamOwned::new(connection, stream);
            let answered = answer(&mut stream, word);
            if stream.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            if answered.is_ok() {
                stream.conn.send_close_notify();
                stream.flush().ok();
            }
        }
    });
    Ok((port, resumed))
}

/// A listener inside, and its port.
pub(crate) fn listen(namespace: &Namespace) -> Result<(TcpListener, String)> {
    let listener = namespace.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let port = listener.local_addr()?.port().to_string();
    Ok((listener, port))
}

/// The name server of a network; it knows this name only, and that it means this host. For names below `failing.test` it fails, and
/// those below `refused.test` it refuses.
pub(crate) fn serve_names(namespace: &Namespace, known: &'static str) -> Result<()> {
    let socket = name_server_socket(namespace)?;
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Ok(answer) = name_answer(&buffer[..length], known) {
                socket.send_to(&answer, from).ok();
            }
        }
    });
    Ok(())
}

/// Where a name server listens.
pub(crate) fn name_server_socket(namespace: &Namespace) -> Result<UdpSocket> {
    namespace
        .inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)))?
        .context("port 53 of a new network")
}

fn name_answer(question: &[u8], known: &str) -> Result<Vec<u8>> {
    let question = Packet::parse(question)?;
    let mut packet = Packet::new_reply(question.id());
    packet.questions = question.questions.clone();
    let asked = question.questions.first().context("no question")?;
    let name = asked.qname.to_string();
    if name != known {
        *packet.rcode_mut() = match name.split_once('.') {
            Some((_, "failing.test")) => RCODE::ServerFailure,
            Some((_, "refused.test")) => RCODE::Refused,
            _ => RCODE::NameError,
        };
    } else if asked.qtype == QTYPE::TYPE(TYPE::A) {
        let address = RData::A(A { address: Ipv4Addr::LOCALHOST.to_bits() });
        packet.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 60, address));
    }
    Ok(packet.build_bytes_vec()?)
}

fn echo(mut stream: TcpStream, word: &str) -> io::Result<()> {
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    stream.write_all(&[&said, word.as_bytes()].concat())?;
    stream.shutdown(Shutdown::Both)
}

fn answer(stream: &mut (impl Read + Write), word: &str) -> io::Result<()> {
    head(stream)?;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len());
    // In one piece: the kernel holds further small ones until the first is acknowledged (Nagle's
    // algorithm), and a reset drops what it holds.
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

/// Answers so many requests of each connection, and closes it without a word. Gives its port and the
/// number of connections.
pub(crate) fn serve_often(
    namespace: &Namespace,
    answers: usize,
) -> Result<(String, Arc<AtomicUsize>)> {
    let (listener, port) = listen(namespace)?;
    let connections = Arc::<AtomicUsize>::default();
    let counted = connections.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                // An error: the guest has closed it.
                (0..answers).try_for_each(|_| answer(&mut stream, "again")).ok();
            });
        }
    });
    Ok((port, connections))
}

/// Answers completely, and then ends the connection badly: by bytes that belong to no answer, or by
/// a reset. Gives its port.
pub(crate) fn serve_badly(namespace: &Namespace, word: &'static str) -> Result<String> {
    let (listener, port) = listen(namespace)?;
    thread::spawn(move || {
        for (n, mut stream) in listener.incoming().flatten().enumerate() {
            let answered = answer(&mut stream, word);
            let ended = match n % 2 {
                0 => stream.write_all(b"stray bytes\r\n\r\n"),
                // Without time to linger, closing is a reset.
                _ => set_socket_linger(&stream, Some(Duration::ZERO)).map_err(io::Error::from),
            };
            // A guest that has left already sees neither.
            drop((answered, ended));
        }
    });
    Ok(port)
}

/// Reads a request up to the empty line behind its headers.
pub(crate) fn head(stream: &mut impl Read) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}
