//! The parts of a text that are this program's, between two comments:
//!
//! ```text
//! # >>> runwasi-node-installer: runtimes 5f0c…
//! [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.wasmtime]
//!   …
//! # <<< runwasi-node-installer
//! ```
//!
//! The comment has a digest of the lines, so that a block that was edited is not taken for this
//! program's. Everything else in the text stays as it is, byte for byte.

use sha2::{Digest, Sha256};

use crate::Error;

const BEGIN: &str = "# >>> runwasi-node-installer: ";
const END: &str = "# <<< runwasi-node-installer";
/// In the first comment of a block: the file is this program's, too.
const MADE: &str = "made";
/// In the first comment of a block: the line before it had no end.
const JOINED: &str = "joined";

/// What a block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the file needs to be one of containerd's: a version, or the base of a template.
    Base,
    /// The runtime that containerd 1.x has only as long as no other is named.
    Runc,
    /// The runtimes of this project.
    Runtimes,
}

/// Whether what others wrote still needs a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// Blocks of [`Kind::Base`].
    pub(crate) base: bool,
    /// Blocks of [`Kind::Runc`].
    pub(crate) runc: bool,
}

/// A text, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Foreign(String),
    Block(Block),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    kind: Kind,
    body: String,
    made: bool,
    joined: bool,
}

impl Piece {
    fn is_visible(&self) -> bool {
        match self {
            Self::Foreign(_) => true,
            Self::Block(block) => block.kind == Kind::Base,
        }
    }

    fn lines(&self) -> usize {
        match self {
            Self::Foreign(text) => text.lines().count(),
            Self::Block(block) => block.to_string().lines().count(),
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Runc => "runc",
            Self::Runtimes => "runtimes",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Base, Self::Runc, Self::Runtimes].into_iter().find(|kind| kind.name() == name)
    }
}

impl Text {
    /// A file that is not there yet.
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Finds the blocks. One that was edited, or is cut off, is an error, unless `edited` is
    /// accepted.
    pub(crate) fn parse(file: &str, text: &str, edited: bool) -> Result<Self, Error> {
        let mut pieces = Vec::new();
        let mut foreign = String::new();
        let mut lines = text.split_inclusive('\n').enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(head) = line.strip_prefix(BEGIN) else {
                foreign.push_str(line);
                continue;
            };
            let mut body = String::new();
            let closed = lines.by_ref().any(|(_, line)| {
                let end = line.trim_end_matches(['\r', '\n']) == END;
                if !end {
                    body.push_str(line);
                }
                end
            });
            let block = closed.then(|| Block::parse(head, body, edited)).flatten();
            let block = block.ok_or_else(|| {
                let reason =
                    "this block of runwasi-node-installer was edited: restore or remove it";
                Error::config(file, number + 1, reason)
            })?;
            if block.joined && foreign.ends_with('\n') {
                foreign.pop();
            }
            if !foreign.is_empty() {
                pieces.push(Piece::Foreign(std::mem::take(&mut foreign)));
            }
            pieces.push(Piece::Block(block));
        }
        if !foreign.is_empty() {
            pieces.push(Piece::Foreign(foreign));
        }
        Ok(Self { pieces })
    }

    /// What others wrote.
    pub(crate) fn foreign(&self) -> String {
        self.only(|piece| matches!(piece, Piece::Foreign(_)))
    }

    /// What others wrote, and what their lines rest on.
    pub(crate) fn visible(&self) -> String {
        self.only(Piece::is_visible)
    }

    /// The text of some pieces. A line to which a block gave its end keeps it if something follows.
    fn only(&self, keep: impl Fn(&Piece) -> bool) -> String {
        let (mut text, mut unended) = (String::new(), false);
        for piece in &self.pieces {
            if let Piece::Block(block) = piece {
                unended |= block.joined;
            }
            if keep(piece) {
                if std::mem::take(&mut unended) {
                    text.push('\n');
                }
                text.push_str(&piece.to_string());
            }
        }
        text
    }

    /// The line in the whole text of a line of the visible one.
    pub(crate) fn line(&self, line: usize) -> usize {
        let mut left = line;
        let mut hidden = 0;
        for piece in &self.pieces {
            let lines = piece.lines();
            if !piece.is_visible() {
                hidden += lines;
            } else if lines >= left {
                break;
            } else {
                left -= lines;
            }
        }
        line + hidden
    }

    /// Whether there is a block of this kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.blocks().any(|block| block.kind == kind)
    }

    /// The lines of the block of this kind.
    pub(crate) fn body(&self, kind: Kind) -> Option<&str> {
        self.blocks().find(|block| block.kind == kind).map(|block| block.body.as_str())
    }

    /// Replaces the block of this kind, or appends one.
    pub(crate) fn set(&mut self, kind: Kind, body: String) {
        let found = self.pieces.iter_mut().find_map(|piece| match piece {
            Piece::Block(block) if block.kind == kind => Some(block),
            _ => None,
        });
        if let Some(block) = found {
            block.body = body;
            return;
        }
        let joined = match self.pieces.last() {
            Some(Piece::Foreign(text)) => !text.ends_with('\n'),
            _ => false,
        };
        self.pieces.push(Piece::Block(Block { kind, body, made: false, joined }));
    }

    /// Says in the first block that the file itself is this program's.
    pub(crate) fn made(&mut self) {
        if let Some(Piece::Block(block)) = self.pieces.first_mut() {
            block.made = true;
        }
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Block(block) => Some(block),
            Piece::Foreign(_) => None,
        })
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.only(|_| true))
    }
}

impl std::fmt::Display for Piece {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Foreign(text) => formatter.write_str(text),
            Self::Block(block) => block.fmt(formatter),
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{BEGIN}{} {}", self.kind.name(), digest(&self.body))?;
        for (is, word) in [(self.made, MADE), (self.joined, JOINED)] {
            if is {
                write!(formatter, " {word}")?;
            }
        }
        write!(formatter, "\n{}{END}\n", self.body)
    }
}

impl Block {
    /// The block of a first comment and lines; none if this program did not write it so.
    fn parse(head: &str, body: String, edited: bool) -> Option<Self> {
        let mut words = head.split_whitespace();
        let kind = Kind::named(words.next()?)?;
        let same = words.next()? == digest(&body);
        let mut block = Self { kind, body, made: false, joined: false };
        for word in words {
            match word {
                MADE => block.made = true,
                JOINED => block.joined = true,
                _ => return None,
            }
        }
        (same || edited).then_some(block)
    }
}

/// The text without blocks that others do not need; none if the file itself goes.
pub(crate) fn without(text: &Text, keep: Keep) -> Option<String> {
    let made = text.blocks().any(|block| block.made);
    let rest = text.only(|piece| match piece {
        Piece::Foreign(_) => true,
        Piece::Block(block) => match block.kind {
            Kind::Base => keep.base,
            Kind::Runc => keep.runc,
            Kind::Runtimes => false,
        },
    });
    (!(made && rest.is_empty())).then_some(rest)
}

/// Enough of it to notice an edit.
fn digest(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
