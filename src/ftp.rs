//! The wire: bytes to lines, lines to commands and replies, and back. Pure.
