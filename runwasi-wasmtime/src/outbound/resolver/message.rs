//! Messages of DNS (RFC 1035, 4), as far as a lookup needs them: one question, and the addresses
//! that answer it.
//!
//! Read by hand, and only as far as needed. A library's parser takes a message as a whole: it loses
//! an answer for an unknown record behind it, or because the message is cut where it says that it
//! is. And its work for one message has no bound that suits a worker of guests, whose own servers
//! may answer.

use std::net::IpAddr;

/// Flags in the third byte of a message, and the response code in the fourth.
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const CODE: u8 = 0x0f;

/// Types of records, and the class of the Internet.
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const IN: u16 = 1;

/// Longest label, and longest name with the lengths of its labels and its end.
const MAX_LABEL: u8 = 63;
const MAX_NAME: usize = 255;
/// Most references of one name: it has no more labels than that.
const MAX_REFERENCES: usize = 128;
/// Most labels and references of all names that are read from one message: less than a millisecond.
// Without it a message of 15 KiB has hundred thousands: each record has two references to one name
// of many labels, each of which is behind a reference.
const MAX_STEPS: usize = 32 << 10;
/// Most records that are read from one message.
const MAX_RECORDS: u16 = 1024;
/// Largest number of aliases that are followed within one message.
const MAX_ALIASES: usize = 16;
/// Largest number of addresses that are taken from one message.
const MAX_ADDRESSES: usize = 256;

/// Address family of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Type of the records with its addresses.
    fn kind(self) -> u16 {
        match self {
            Self::V4 => A,
            Self::V6 => AAAA,
        }
    }
}

/// Labels in lower case, each behind its length.
#[derive(Debug, PartialEq, Eq)]
struct Name(Vec<u8>);

impl Name {
    /// Absent if the text is no name.
    fn of(text: &str) -> Option<Self> {
        let mut name = Self(Vec::with_capacity(text.len() + 1));
        text.split('.').try_for_each(|label| name.add(label.as_bytes()))?;
        Some(name)
    }

    fn add(&mut self, label: &[u8]) -> Option<()> {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=MAX_LABEL).contains(n))?;
        // One more byte for the end.
        if self.0.len() + label.len() + 2 > MAX_NAME {
            return None;
        }
        self.0.push(length);
        self.0.extend(label.iter().map(u8::to_ascii_lowercase));
        Some(())
    }
}

/// A query for the addresses of a name.
pub(super) struct Query {
    id: u16,
    name: Name,
    kind: u16,
}

impl Query {
    /// Absent if the text is no name.
    pub(super) fn new(id: u16, name: &str, family: Family) -> Option<Self> {
        Some(Self { id, name: Name::of(name)?, kind: family.kind() })
    }

    /// The query as it is sent.
    pub(super) fn message(&self) -> Vec<u8> {
        // The servers of `resolv.conf` are resolvers: they ask the authoritative servers for us.
        let flags = u16::from_be_bytes([RECURSION_DESIRED, 0]);
        // One question, and no records in the other three parts.
        let header = [self.id, flags, 1, 0, 0, 0].map(u16::to_be_bytes);
        let question = [self.kind, IN].map(u16::to_be_bytes);
        [header.as_flattened(), &self.name.0, &[0], question.as_flattened()].concat()
    }

    /// The head of a message, if it is a reply to this query.
    pub(super) fn reply<'m>(&self, message: &'m [u8]) -> Option<Reply<'m>> {
        let mut reader = Reader::new(message);
        let id = reader.number()?;
        let [flags, code] = reader.number()?.to_be_bytes();
        let questions = reader.number()?;
        let answers = reader.number()?;
        // The numbers of the records behind the answers.
        reader.bytes(4)?;
        let is_reply = id == self.id && flags & RESPONSE != 0 && questions == 1;
        let is_ours = is_reply
            && reader.name()? == self.name
            && reader.number()? == self.kind
            && reader.number()? == IN;
        let truncated = flags & TRUNCATED != 0;
        is_ours.then_some(Reply { truncated, code: code & CODE, answers, records: reader })
    }
}

/// A reply to a query, of which only the head is read.
pub(super) struct Reply<'m> {
    /// Not all of the answers have fitted.
    pub(super) truncated: bool,
    /// The response code.
    pub(super) code: u8,
    answers: u16,
    records: Reader<'m>,
}

impl Reply<'_> {
    /// Addresses of the queried name, or of the one that its aliases lead to. Absent if the answers
    /// are damaged.
    pub(super) fn addresses(&self, query: &Query) -> Option<Vec<IpAddr>> {
        let records = self.records(query.kind)?;
        let mut owner = &query.name;
        // Bounded: aliases may form a circle.
        for _ in 0..MAX_ALIASES {
            // Records of other names do not count: nothing was asked about them.
            let of_owner = || records.iter().filter(|record| record.name == *owner);
            let addresses = of_owner().filter_map(|record| match record.data {
                Data::Address(address) => Some(address),
                Data::Alias(_) => None,
            });
            let found: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
            let alias = of_owner().find_map(|record| match &record.data {
                Data::Alias(alias) => Some(alias),
                Data::Address(_) => None,
            });
            match alias {
                Some(alias) if found.is_empty() => owner = alias,
                _ => return Some(found),
            }
        }
        Some(Vec::new())
    }

    /// The answers with an alias or, of the queried type, an address.
    fn records(&self, kind: u16) -> Option<Vec<Record>> {
        let mut reader = self.records;
        let mut records = Vec::new();
        for _ in 0..self.answers.min(MAX_RECORDS) {
            records.extend(reader.record(kind)?);
        }
        Some(records)
    }
}

struct Record {
    name: Name,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(Name),
}

/// The end of a name behind its labels.
enum Next {
    End,
    /// The rest of the name, at this place of the message.
    Reference(usize),
}

/// A place in a message. What it reads is absent if the message ends before, or is damaged there.
#[derive(Clone, Copy)]
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
    /// Labels and references that may still be read.
    steps: usize,
}

impl<'m> Reader<'m> {
    fn new(message: &'m [u8]) -> Self {
        Self { message, at: 0, steps: MAX_STEPS }
    }

    fn bytes(&mut self, number: usize) -> Option<&'m [u8]> {
        let bytes = self.message.get(self.at..)?.get(..number)?;
        self.at += number;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Reads a record: absent inside if it is of no use for a query of this type.
    fn record(&mut self, kind: u16) -> Option<Option<Record>> {
        let name = self.name()?;
        let found = self.number()?;
        let class = self.number()?;
        // The time to live.
        self.bytes(4)?;
        let length = self.number()?;
        let mut data = *self;
        self.bytes(length.into())?;
        let data = match (class, found, length) {
            (IN, CNAME, _) => {
                let alias = data.name()?;
                self.steps = data.steps;
                Data::Alias(alias)
            }
            (IN, A, 4) if kind == A => Data::Address(data.array::<4>()?.into()),
            (IN, AAAA, 16) if kind == AAAA => Data::Address(data.array::<16>()?.into()),
            _ => return Some(None),
        };
        Some(Some(Record { name, data }))
    }

    fn name(&mut self) -> Option<Name> {
        let mut name = Name(Vec::new());
        // Behind the first reference, if there is one.
        let mut behind = None;
        for _ in 0..=MAX_REFERENCES {
            match self.labels(&mut name)? {
                Next::End => {
                    self.at = behind.unwrap_or(self.at);
                    return Some(name);
                }
                Next::Reference(place) => {
                    behind.get_or_insert(self.at);
                    self.at = place;
                }
            }
        }
        None
    }

    fn labels(&mut self, name: &mut Name) -> Option<Next> {
        loop {
            self.steps = self.steps.checked_sub(1)?;
            match self.byte()? {
                0 => return Some(Next::End),
                length @ ..=MAX_LABEL => name.add(self.bytes(length.into())?)?,
                high @ 0xc0.. => {
                    let low = self.byte()?;
                    let place = u16::from_be_bytes([high & 0x3f, low]);
                    return Some(Next::Reference(place.into()));
                }
                // Reserved.
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use simple_dns::{
        CLASS, Name as DnsName, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord,
        TYPE,
        rdata::{self, RData},
    };

    use super::*;

    fn query(name: &str, family: Family) -> Query {
        Query::new(0x1234, name, family).unwrap()
    }

    fn record<'a>(name: &'a str, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(DnsName::new(name).unwrap(), CLASS::IN, 60, rdata)
    }

    fn a(address: [u8; 4]) -> RData<'static> {
        RData::A(rdata::A { address: u32::from_be_bytes(address) })
    }

    fn alias(name: &str) -> RData<'_> {
        RData::CNAME(rdata::CNAME(DnsName::new(name).unwrap()))
    }

    fn question<'a>(name: &'a str) -> Question<'a> {
        let name = DnsName::new(name).unwrap();
        Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false)
    }

    /// A reply to the query for the IPv4 addresses of `name`.
    fn reply(name: &str, records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let mut packet = Packet::new_reply(0x1234);
        packet.questions.push(question(name));
        packet.answers = records;
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn addresses(message: &[u8], asked: &Query) -> Option<Vec<String>> {
        let found = asked.reply(message)?.addresses(asked)?;
        Some(found.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn a_query_has_one_question_and_desires_recursion() {
        let message = query("www.Example.com", Family::V6).message();
        let packet = Packet::parse(&message).unwrap();
        assert!(
            packet.has_flags(PacketFlag::RECURSION_DESIRED)
                && !packet.has_flags(PacketFlag::RESPONSE)
        );
        assert_eq!((packet.id(), packet.questions.len()), (0x1234, 1));
        assert_eq!(packet.questions[0].qname.to_string(), "www.example.com");
        assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(TYPE::AAAA));
    }

    #[test]
    fn texts_that_are_no_names_are_refused() {
        let name = |labels: usize, last: &str| "a.".repeat(labels) + last;
        assert!(Query::new(1, &name(126, "a"), Family::V4).is_some());
        for bad in ["", "a..b", "a.", &"a".repeat(64), &name(126, "aa")] {
            assert!(Query::new(1, bad, Family::V4).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_records_of_the_name_and_its_aliases_count() {
        let asked = query("www.test", Family::V4);
        let records = vec![
            record("evil.test", a([6, 6, 6, 6])),
            record("c.test", a([192, 0, 2, 2])),
            record("WWW.Test", alias("b.test")),
            record("b.test", alias("C.test")),
            record("c.test", a([192, 0, 2, 1])),
            record("c.test", RData::AAAA(rdata::AAAA { address: 1 })),
        ];
        let found = addresses(&reply("www.test", records), &asked).unwrap();
        assert_eq!(found, ["192.0.2.2", "192.0.2.1"]);
    }

    #[test]
    fn a_circle_of_aliases_gives_no_addresses() {
        let asked = query("a.test", Family::V4);
        let records = vec![record("a.test", alias("b.test")), record("b.test", alias("a.test"))];
        assert_eq!(addresses(&reply("a.test", records), &asked), Some(Vec::new()));
    }

    #[test]
    fn a_reply_to_another_query_is_refused() {
        let asked = query("a.test", Family::V4);
        let right = reply("A.test", vec![record("a.test", a([192, 0, 2, 1]))]);
        assert_eq!(addresses(&right, &asked).unwrap(), ["192.0.2.1"]);
        assert!(asked.reply(&reply("b.test", Vec::new())).is_none());
        assert!(query("a.test", Family::V6).reply(&right).is_none());
        assert!(asked.reply(&asked.message()).is_none(), "the query itself");
        let mut other = right.clone();
        other[0] ^= 1;
        assert!(asked.reply(&other).is_none(), "the id");
        let mut none = right.clone();
        none[5] = 0;
        assert!(asked.reply(&none).is_none(), "no question");
        // The head ends with the question: a name of 8 bytes, and 4 more.
        for cut in 0..24 {
            assert!(asked.reply(&right[..cut]).is_none(), "{cut}");
        }
        let cut = &right[..right.len() - 1];
        assert!(asked.reply(cut).unwrap().addresses(&asked).is_none());
    }

    #[test]
    fn codes_and_the_flag_of_a_cut_message_are_those_of_the_head() {
        let asked = query("a.test", Family::V4);
        let mut message = reply("a.test", vec![record("a.test", a([192, 0, 2, 1]))]);
        assert!(!asked.reply(&message).unwrap().truncated);
        message[2] |= TRUNCATED;
        // In the middle of a record, where some servers cut.
        assert!(asked.reply(&message[..30]).unwrap().truncated);
        let mut packet = Packet::new_reply(0x1234);
        packet.questions.push(question("a.test"));
        *packet.rcode_mut() = RCODE::NameError;
        assert_eq!(asked.reply(&packet.build_bytes_vec().unwrap()).unwrap().code, 3);
    }

    #[test]
    fn what_a_lookup_does_not_need_does_no_harm() {
        let asked = query("a.test", Family::V4);
        let mut message = reply("a.test", vec![record("a.test", a([192, 0, 2, 1]))]);
        // A flag without a meaning, a record of an unknown class, and one that is cut.
        message[3] |= 0x40;
        message[11] = 2;
        message.extend(*b"\xc0\x0c\x00\x10\x12\x34\0\0\0\0\0\x01\x09\xc0");
        assert_eq!(addresses(&message, &asked).unwrap(), ["192.0.2.1"]);
    }

    #[test]
    fn circles_and_long_names_are_damaged() {
        let asked = query("a.test", Family::V4);
        let head = reply("a.test", Vec::new());
        for name in [&b"\xc0\x18"[..], b"\x01a\xc0\x18", b"\x40", b"\xc0\xff", b"\x05a"] {
            let mut message = [&head[..], name].concat();
            message[7] = 1;
            assert!(asked.reply(&message).unwrap().addresses(&asked).is_none(), "{name:?}");
        }
    }

    #[test]
    fn labels_of_a_message_are_bounded() {
        let name = ["a"; 100].join(".");
        let asked = query(&name, Family::V4);
        // Each has a reference to the name of the question, and so a hundred labels.
        let addresses = |rdata: RData<'_>, records: usize| {
            let records = (0..records).map(|_| record(&name, rdata.clone())).collect();
            addresses(&reply(&name, records), &asked)
        };
        assert_eq!(addresses(a([192, 0, 2, 1]), 300).unwrap().len(), MAX_ADDRESSES);
        assert_eq!(addresses(a([192, 0, 2, 1]), 400), None);
        // Their aliases have as many.
        assert_eq!(addresses(alias(&name), 150), Some(Vec::new()));
        assert_eq!(addresses(alias(&name), 200), None);
    }

    /// A message with a name of this many references behind its question.
    fn of_references(number: u16) -> Vec<u8> {
        let mut message = reply("a.test", Vec::new());
        let begin = u16::try_from(message.len()).unwrap();
        // Each to the next one, the last to the name of the question.
        let next = (1..number).map(|reference| begin + 2 * reference).chain([12]);
        message.extend(next.flat_map(|place| (0xc000 | place).to_be_bytes()));
        message
    }

    #[test]
    fn references_of_a_name_are_bounded() {
        let has_name = |references| {
            let message = of_references(references);
            Reader { at: 24, ..Reader::new(&message) }.name().is_some()
        };
        assert!(has_name(3) && has_name(MAX_REFERENCES as u16));
        assert!(!has_name(MAX_REFERENCES as u16 + 1));
    }
}
