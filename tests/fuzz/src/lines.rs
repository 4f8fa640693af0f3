//! Bytes to lines, twice: by the splitter under test, in chunks, and by the plainest means.

use ftp_alg::ftp::line::{LineSplitter, MAX_LINE, Piece};

/// What a stream comes to: whole lines, overlong ones put together again, and the end without LF.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub lines: Vec<Vec<u8>>,
    pub overlong: Vec<Vec<u8>>,
    pub rest: Option<Vec<u8>>,
}

/// The same by the plainest means, with the stream whole in memory.
pub fn split_plainly(stream: &[u8]) -> Split {
    let mut split = Split::default();
    for line in stream.split_inclusive(|&b| b == b'\n') {
        match (line.ends_with(b"\n"), line.len()) {
            (true, ..=MAX_LINE) => split.lines.push(line.to_vec()),
            (false, ..MAX_LINE) => split.rest = Some(line.to_vec()),
            _ => split.overlong.push(line.to_vec()),
        }
    }
    split
}

/// By the splitter; the sizes of the chunks repeat.
pub fn split_in_chunks(stream: &[u8], sizes: &[usize]) -> Split {
    let (mut splitter, mut split) = (LineSplitter::default(), Split::default());
    let (mut left, mut sizes) = (stream, sizes.iter().cycle());
    while !left.is_empty() {
        let size = *sizes.next().expect("at least one size");
        let (mut chunk, rest) = left.split_at(size.min(left.len()));
        left = rest;
        while let Some(piece) = splitter.next(&mut chunk) {
            match piece {
                Piece::Line(line) => split.lines.push(line.to_vec()),
                Piece::Option(_) => panic!("options pass"),
                Piece::Overlong { bytes, first, last } => {
                    assert!(!bytes.is_empty() && bytes.len() <= MAX_LINE);
                    assert_eq!(last, bytes.ends_with(b"\n"));
                    if first {
                        assert_eq!(bytes.len(), MAX_LINE);
                        split.overlong.push(Vec::new());
                    }
                    split.overlong.last_mut().expect("the first part of it").extend_from_slice(&bytes);
                }
            }
        }
        assert!(chunk.is_empty());
    }
    assert_eq!(splitter.is_mid_line(), stream.last().is_some_and(|&b| b != b'\n'));
    split.rest = splitter.take_rest().map(Vec::from);
    split
}

/// Cuts a stream in the ways that may matter: a short one in two at every point, a long one here and there.
pub fn split_everywhere(stream: &[u8]) -> Split {
    let expected = split_plainly(stream);
    let every = if stream.len() <= 128 { 1 } else { stream.len() / 4 };
    for first in (1..=stream.len()).step_by(every) {
        assert_eq!(split_in_chunks(stream, &[first, stream.len()]), expected, "cut at {first}");
    }
    assert_eq!(split_in_chunks(stream, &[1]), expected, "byte by byte");
    expected
}
