//! One DNS query to one name server: by UDP, and by TCP if the answer did not fit.
//!
//! An attacker may send forged answers. A datagram counts only if it comes from the queried server
//! (the socket is connected), to our random port, with our random id and our question. Other
//! datagrams are ignored.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use runwasi_core::network::Network;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    files::{ResolverConfig, Server},
    message::{Family, Query, Reply},
};
use crate::outbound::sockets;

/// Size of the receive buffer. Queries without EDNS are answered with at most 512 bytes (RFC 1035).
const MAX_DATAGRAM: usize = 4096;

/// Response codes: all is well, and there is no such name.
const NO_ERROR: u8 = 0;
const NO_NAME: u8 = 3;

/// Answer of a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Addresses of the queried family. May be empty.
    Addresses(Vec<IpAddr>),
    /// The name does not exist.
    NoName,
}

/// Error of a query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    /// The server cannot be reached.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server has not answered in time.
    #[error("no answer in time")]
    Timeout,
    /// The server refuses to answer or has failed.
    #[error("the server answers with code {0}")]
    Refused(u8),
    /// The message by TCP is no answer to the query.
    #[error("a damaged answer")]
    Damaged,
    /// The name does not fit into a query.
    #[error("no name that could be asked for")]
    BadName,
}

/// Queries `server` once. The timeout covers both protocols.
pub(crate) async fn ask(
    network: &Network,
    server: &Server,
    name: &str,
    family: Family,
    config: &ResolverConfig,
) -> Result<Answer, DnsError> {
    let question = EncodedQuery::new(name, family)?;
    let server = server.address(network)?;
    let asking = async {
        // A truncated answer by UDP is asked for again by TCP (RFC 7766).
        if !config.tcp
            && let Some(answer) = question.by_udp(network, server).await?
        {
            return Ok(answer);
        }
        question.by_tcp(network, server).await
    };
    // This also ends the loop of `by_udp`, which waits as long as only forged datagrams come.
    timeout(config.timeout, asking).await.unwrap_or(Err(DnsError::Timeout))
}

/// A query, encoded.
struct EncodedQuery {
    query: Query,
    message: Vec<u8>,
}

impl EncodedQuery {
    fn new(name: &str, family: Family) -> Result<Self, DnsError> {
        // Random: an attacker without a view of the query has to guess it.
        let query = Query::new(random_id()?, name, family).ok_or(DnsError::BadName)?;
        let message = query.message();
        Ok(Self { query, message })
    }

    /// Queries by UDP. Returns the answer unless it was truncated.
    async fn by_udp(
        &self,
        network: &Network,
        server: SocketAddr,
    ) -> Result<Option<Answer>, DnsError> {
        let socket = sockets::udp(network, server)?;
        socket.send(&self.message).await?;
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // Not an error: a forged datagram must not keep the server's answer from us.
            let Some(reply) = self.query.reply(&buffer[..length]) else { continue };
            if reply.truncated {
                return Ok(None);
            }
            if let Some(answer) = self.read(&reply) {
                return answer.map(Some);
            }
        }
    }

    /// Queries by TCP.
    async fn by_tcp(&self, network: &Network, server: SocketAddr) -> Result<Answer, DnsError> {
        let mut stream = sockets::tcp(network, server)?.connect(server).await?;
        let length = u16::try_from(self.message.len()).map_err(|_| DnsError::BadName)?;
        // RFC 1035, 4.2.2: by TCP a message follows its length.
        let framed = [&length.to_be_bytes(), self.message.as_slice()].concat();
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        // At most 64 KiB, by the type of the length.
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        // An error: the connection belongs to the server, so a second answer is not to be expected.
        let reply = self.query.reply(&answer).ok_or(DnsError::Damaged)?;
        self.read(&reply).unwrap_or(Err(DnsError::Damaged))
    }

    /// Reads the answer out of a reply. Absent if that is damaged.
    fn read(&self, reply: &Reply<'_>) -> Option<Result<Answer, DnsError>> {
        match reply.code {
            NO_ERROR => Some(Ok(Answer::Addresses(reply.addresses(&self.query)?))),
            NO_NAME => Some(Ok(Answer::NoName)),
            other => Some(Err(DnsError::Refused(other))),
        }
    }
}

/// Message id that an attacker cannot predict.
fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    Ok(u16::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_name_an_empty_answer_and_a_failure_differ() {
        let asked = EncodedQuery::new("a.test", Family::V4).unwrap();
        let answered = |code: u8| {
            let mut message = asked.message.clone();
            message[2] |= 0x80;
            message[3] = code;
            asked.read(&asked.query.reply(&message).unwrap()).unwrap()
        };
        assert_eq!(answered(0).unwrap(), Answer::Addresses(Vec::new()));
        assert_eq!(answered(3).unwrap(), Answer::NoName);
        assert!(matches!(answered(2), Err(DnsError::Refused(2))));
    }
}
