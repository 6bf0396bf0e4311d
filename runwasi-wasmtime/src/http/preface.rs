//! Preface of HTTP/2: the first bytes of a client that speaks it (RFC 9113, section 3.4).

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection, compared with the preface.
pub(super) struct Preface {
    /// Bytes of it that are still to come. Absent when the comparison is over.
    left: Option<&'static [u8]>,
}

impl Default for Preface {
    fn default() -> Self {
        Self { left: Some(PREFACE) }
    }
}

impl Preface {
    /// Takes further bytes. True if the last byte of the preface is among them.
    pub(super) fn ends_in(&mut self, bytes: &[u8]) -> bool {
        let Some(left) = self.left else { return false };
        let both = left.len().min(bytes.len());
        let rest = left.strip_prefix(&bytes[..both]);
        self.left = rest.filter(|rest| !rest.is_empty());
        rest.is_some_and(<[u8]>::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_found_in_any_pieces_and_once() {
        for pieces in [1, 2, 7, 23, 24] {
            let mut preface = Preface::default();
            let ends: Vec<_> = PREFACE.chunks(pieces).map(|piece| preface.ends_in(piece)).collect();
            let (last, before) = ends.split_last().unwrap();
            assert!(*last && before.iter().all(|ends| !ends), "{pieces}");
            assert!(!preface.ends_in(PREFACE), "{pieces}");
        }
        assert!(Preface::default().ends_in(&[PREFACE, b"more"].concat()));
    }

    #[test]
    fn a_request_of_http1_is_no_preface() {
        let mut preface = Preface::default();
        assert!(!preface.ends_in(b"P"));
        assert!(!preface.ends_in(b"OST / HTTP/1.1\r\n"));
        assert!(!preface.ends_in(&PREFACE[1..]));
    }
}
