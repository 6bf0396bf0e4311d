//! One DNS query to one name server: by UDP, and by TCP if the answer did not fit.
//!
//! An attacker may send forged answers. A datagram counts only if it comes from the queried server
//! (the socket is connected), to our random port, with our random id and our question. Other
//! datagrams are ignored.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use runwasi_core::network::Network;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::outbound::sockets;

/// Size of the receive buffer. Queries without EDNS are answered with at most 512 bytes (RFC 1035).
const MAX_DATAGRAM: usize = 4096;
/// Largest number of aliases that are followed within one answer.
const MAX_ALIASES: usize = 16;
/// Largest number of addresses that are taken from one answer.
const MAX_ADDRESSES: usize = 256;

/// Address family of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

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
    #[error("the server says {0:?}")]
    Refused(RCODE),
    /// The message by TCP is no answer to the query.
    #[error("a damaged answer")]
    Damaged,
    /// The name does not fit into a query.
    #[error("no name that could be asked for")]
    BadName,
}

/// Queries `server` once. `patience` covers both protocols.
pub(crate) async fn ask(
    network: &Network,
    server: SocketAddr,
    name: &str,
    family: Family,
    tcp: bool,
    patience: Duration,
) -> Result<Answer, DnsError> {
    let question = Query::new(name, family)?;
    let asking = async {
        // A truncated answer by UDP is asked for again by TCP (RFC 7766).
        if !tcp && let Some(answer) = question.by_udp(network, server).await? {
            return Ok(answer);
        }
        question.by_tcp(network, server).await
    };
    // This also ends the loop of `by_udp`, which waits as long as only forged datagrams come.
    timeout(patience, asking).await.unwrap_or(Err(DnsError::Timeout))
}

/// A query, encoded.
struct Query<'a> {
    id: u16,
    name: Name<'a>,
    kind: TYPE,
    message: Vec<u8>,
}

impl<'a> Query<'a> {
    fn new(name: &'a str, family: Family) -> Result<Self, DnsError> {
        // Random: an attacker without a view of the query has to guess it.
        let id = random_id()?;
        let name = Name::new(name).map_err(|_| DnsError::BadName)?;
        let kind = match family {
            Family::V4 => TYPE::A,
            Family::V6 => TYPE::AAAA,
        };
        let mut packet = Packet::new_query(id);
        // The servers of `resolv.conf` are resolvers: they ask the authoritative servers for us.
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(question(&name, kind));
        let message = packet.build_bytes_vec().map_err(|_| DnsError::BadName)?;
        Ok(Self { id, name, kind, message })
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
            let Some(packet) = self.ours(&buffer[..length]) else { continue };
            if packet.has_flags(PacketFlag::TRUNCATION) {
                return Ok(None);
            }
            return self.read(&packet).map(Some);
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
        let packet = self.ours(&answer).ok_or(DnsError::Damaged)?;
        self.read(&packet)
    }

    /// Parses a message, if it is an answer to this query.
    fn ours<'p>(&self, bytes: &'p [u8]) -> Option<Packet<'p>> {
        let packet = Packet::parse(bytes).ok()?;
        let asked = |question: &Question<'_>| {
            question.qname == self.name
                && question.qtype == QTYPE::TYPE(self.kind)
                && question.qclass == QCLASS::CLASS(CLASS::IN)
        };
        let is_ours = packet.id() == self.id
            && packet.has_flags(PacketFlag::RESPONSE)
            && packet.questions.len() == 1
            && packet.questions.iter().all(asked);
        is_ours.then_some(packet)
    }

    /// Reads the answer out of a message that [`Query::ours`] has accepted.
    fn read(&self, packet: &Packet<'_>) -> Result<Answer, DnsError> {
        match packet.rcode() {
            RCODE::NoError => Ok(Answer::Addresses(self.addresses(packet))),
            RCODE::NameError => Ok(Answer::NoName),
            other => Err(DnsError::Refused(other)),
        }
    }

    /// Addresses of the name or of the name that its aliases lead to.
    fn addresses(&self, packet: &Packet<'_>) -> Vec<IpAddr> {
        let mut owner = &self.name;
        // Bounded: aliases may form a circle.
        for _ in 0..MAX_ALIASES {
            // Records of other names do not count: nothing was asked about them.
            let records = || {
                packet
                    .answers
                    .iter()
                    .filter(|record| record.name == *owner && record.class == CLASS::IN)
            };
            let of_kind = records().filter_map(|record| match (&record.rdata, self.kind) {
                (RData::A(a), TYPE::A) => Some(IpAddr::from(a.address.to_be_bytes())),
                (RData::AAAA(aaaa), TYPE::AAAA) => Some(IpAddr::from(aaaa.address.to_be_bytes())),
                _ => None,
            });
            let found: Vec<_> = of_kind.take(MAX_ADDRESSES).collect();
            let alias = records().find_map(|record| match &record.rdata {
                RData::CNAME(alias) => Some(&alias.0),
                _ => None,
            });
            match alias {
                Some(alias) if found.is_empty() => owner = alias,
                _ => return found,
            }
        }
        Vec::new()
    }
}

fn question<'a>(name: &Name<'a>, kind: TYPE) -> Question<'a> {
    Question::new(name.clone(), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false)
}

/// Message id that an attacker cannot predict.
fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    Ok(u16::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use simple_dns::{
        ResourceRecord,
        rdata::{A, AAAA, CNAME},
    };

    use super::*;

    fn record<'a>(name: &'a str, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 60, rdata)
    }

    fn a(address: [u8; 4]) -> RData<'static> {
        RData::A(A { address: u32::from_be_bytes(address) })
    }

    fn alias(name: &str) -> RData<'_> {
        RData::CNAME(CNAME(Name::new(name).unwrap()))
    }

    /// Result of `asked` for a reply with these records; `None` if it refuses the reply.
    fn answered<'r>(
        asked: &Query<'r>,
        change: impl FnOnce(&mut Packet<'r>),
        records: Vec<ResourceRecord<'r>>,
    ) -> Option<Answer> {
        let mut packet = Packet::new_reply(asked.id);
        packet.questions.push(question(&asked.name, asked.kind));
        packet.answers = records;
        change(&mut packet);
        let bytes = packet.build_bytes_vec().unwrap();
        let packet = asked.ours(&bytes)?;
        asked.read(&packet).ok()
    }

    fn addresses(list: &[&str]) -> Option<Answer> {
        Some(Answer::Addresses(list.iter().map(|address| address.parse().unwrap()).collect()))
    }

    #[test]
    fn a_query_has_one_question_and_desires_recursion() {
        let asked = Query::new("www.example.com", Family::V6).unwrap();
        let packet = Packet::parse(&asked.message).unwrap();
        assert!(
            packet.has_flags(PacketFlag::RECURSION_DESIRED)
                && !packet.has_flags(PacketFlag::RESPONSE)
        );
        assert_eq!((packet.id(), packet.questions.len()), (asked.id, 1));
        assert_eq!(packet.questions[0].qname.to_string(), "www.example.com");
        assert!(Query::new(&"a".repeat(64), Family::V4).is_err());
    }

    #[test]
    fn only_the_records_of_the_name_and_its_aliases_count() {
        let asked = Query::new("www.test", Family::V4).unwrap();
        let records = vec![
            record("evil.test", a([6, 6, 6, 6])),
            record("c.test", a([192, 0, 2, 2])),
            record("WWW.Test", alias("b.test")),
            record("b.test", alias("c.test")),
            record("c.test", a([192, 0, 2, 1])),
            record("c.test", RData::AAAA(AAAA { address: 1 })),
        ];
        assert_eq!(answered(&asked, |_| (), records), addresses(&["192.0.2.2", "192.0.2.1"]));
    }

    #[test]
    fn a_circle_of_aliases_gives_no_addresses() {
        let asked = Query::new("a.test", Family::V4).unwrap();
        let records = vec![record("a.test", alias("b.test")), record("b.test", alias("a.test"))];
        assert_eq!(answered(&asked, |_| (), records), addresses(&[]));
    }

    #[test]
    fn an_answer_to_another_query_is_ignored() {
        let asked = Query::new("a.test", Family::V4).unwrap();
        let records = || vec![record("a.test", a([192, 0, 2, 1]))];
        assert_eq!(answered(&asked, |_| (), records()), addresses(&["192.0.2.1"]));
        let other_name = question(&Name::new("b.test").unwrap(), TYPE::A);
        assert_eq!(answered(&asked, |packet| packet.questions = vec![other_name], records()), None);
        assert_eq!(answered(&asked, |packet| packet.questions.clear(), records()), None);
        assert_eq!(answered(&asked, |packet| packet.set_id(asked.id ^ 1), records()), None);
        assert_eq!(
            answered(&asked, |packet| packet.remove_flags(PacketFlag::RESPONSE), records()),
            None
        );
        assert!(asked.ours(b"\0").is_none());
    }

    #[test]
    fn a_missing_name_an_empty_answer_and_a_failure_differ() {
        let asked = Query::new("a.test", Family::V4).unwrap();
        let none = answered(&asked, |packet| *packet.rcode_mut() = RCODE::NameError, Vec::new());
        assert_eq!(none, Some(Answer::NoName));
        assert_eq!(answered(&asked, |_| (), Vec::new()), addresses(&[]));
        let failed =
            answered(&asked, |packet| *packet.rcode_mut() = RCODE::ServerFailure, Vec::new());
        assert_eq!(failed, None);
    }
}
