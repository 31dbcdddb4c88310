//! Server-sent events: from body bytes, however they are cut, to the data of each event.

use memchr::memchr;

/// Longest event that is put together from several reads.
pub(crate) const LONGEST: usize = 64 << 20;

/// What is left of an event whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Bytes of an incomplete line.
    line: Vec<u8>,
    /// Data lines of the event so far, joined by line ends.
    data: Vec<u8>,
    has_data: bool,
    /// The last line ended in a CR, and a LF that follows belongs to it.
    cr: bool,
}

/// An event is longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Events {
    /// Ready for another stream; keeps its memory.
    pub fn clear(&mut self) {
        self.line.clear();
        self.data.clear();
        (self.has_data, self.cr) = (false, false);
    }

    /// Bytes of the body; calls `event` with the data of each event that they complete. `event` says whether to go on.
    pub fn feed(&mut self, mut bytes: &[u8], event: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if self.cr {
                self.cr = false;
                if bytes[0] == b'\n' {
                    bytes = &bytes[1..];
                    continue;
                }
            }
            // Lines end in LF, CR LF or CR. CR alone is rare, so the search is for LF and the CR is looked for within.
            let (end, next) = match memchr(b'\n', bytes) {
                Some(lf) => (lf, lf + 1),
                None => (bytes.len(), bytes.len() + 1),
            };
            let (end, next, cr) = match memchr(b'\r', &bytes[..end]) {
                Some(cr) if cr + 1 == end && next <= bytes.len() => (cr, next, false),
                Some(cr) => (cr, cr + 1, true),
                None => (end, next, false),
            };
            if next > bytes.len() {
                if self.line.len() + bytes.len() > LONGEST {
                    return Err(TooLong);
                }
                self.line.extend_from_slice(bytes);
                return Ok(());
            }
            self.cr = cr;
            let go_on = if self.line.is_empty() {
                self.a_line(&bytes[..end], event)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                let go_on = self.a_line(&line, event);
                line.clear();
                self.line = line;
                go_on?
            };
            bytes = &bytes[next..];
            if !go_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The stream has ended: an event without the blank line at its end counts too, as some servers leave it out.
    pub fn finish(&mut self, event: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.a_line(&line, event)?;
        }
        self.a_line(b"", event)?;
        Ok(())
    }

    fn a_line(&mut self, line: &[u8], event: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, TooLong> {
        if line.is_empty() {
            if !self.has_data {
                return Ok(true);
            }
            self.has_data = false;
            let go_on = event(&self.data);
            self.data.clear();
            return Ok(go_on);
        }
        // Comments begin with a colon; `event:`, `id:` and `retry:` say nothing that is needed.
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(true) };
        if self.data.len() + data.len() > LONGEST {
            return Err(TooLong);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        self.has_data = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut e, mut out) = (Events::default(), Vec::new());
        let mut take = |d: &[u8]| {
            out.push(String::from_utf8_lossy(d).into_owned());
            true
        };
        for p in pieces {
            e.feed(p, &mut take).expect("short");
        }
        e.finish(&mut take).expect("short");
        out
    }

    #[test]
    fn events_comments_and_all_line_ends() {
        let text =
            b": ping\n\ndata: a\n\ndata:b\r\n\r\nevent: x\ndata: c\rdata: d\r\rid: 3\n\ndata: \n\ndata: last";
        assert_eq!(events(&[text]), ["a", "b", "c\nd", "", "last"]);
    }

    proptest! {
        /// However the bytes are cut, the same events come.
        #[test]
        fn cuts_do_not_matter(
            lines in prop::collection::vec(("[a-z\\{\\}:\" ]{0,8}", 0usize..3, 0usize..3), 0..12),
            cuts in prop::collection::vec(1usize..7, 0..60),
        ) {
            let mut text = Vec::new();
            for (body, kind, end) in &lines {
                let end = ["\n", "\r\n", "\r"][*end];
                match kind {
                    0 => text.extend(format!("data: {body}{end}{end}").into_bytes()),
                    1 => text.extend(format!("data:{body}{end}").into_bytes()),
                    _ => text.extend(format!(":{body}{end}").into_bytes()),
                }
            }
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = &text[..];
            for c in cuts {
                let (a, b) = rest.split_at(c.min(rest.len()));
                pieces.push(a);
                rest = b;
            }
            pieces.push(rest);
            prop_assert_eq!(events(&pieces), events(&[&text]));
        }
    }
}
