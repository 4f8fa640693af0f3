//! What every file consists of: bytes that depend on their position, so that one lost, doubled or out of place shows.

use std::sync::LazyLock;

/// Bytes at once, of those who send and of those who receive.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Longer files are there to measure what moving them costs: only their length is checked.
pub(crate) const CHECKED: u64 = 256 << 20;

/// The content repeats after this. A prime, so that no buffer's size divides it and a lost buffer shows.
const PERIOD: usize = 65_521;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        // Marsaglia's xorshift: any noise will do.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let period: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
    period.iter().copied().cycle().take(PERIOD + CHUNK).collect()
});

/// The bytes of a file from this position on: as many as asked for, a [`CHUNK`] at most.
pub(crate) fn from(position: u64, wanted: u64) -> &'static [u8] {
    let start = usize::try_from(position % PERIOD as u64).expect("below the period");
    let length = usize::try_from(wanted).map_or(CHUNK, |wanted| wanted.min(CHUNK));
    &BYTES[start..start + length]
}

/// Whether these bytes, a [`CHUNK`] at most, are those of a file at this position.
pub(crate) fn is(position: u64, bytes: &[u8]) -> bool {
    bytes == from(position, bytes.len() as u64)
}
