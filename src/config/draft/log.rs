//! `log`, from its text.

use std::path::PathBuf;

use super::Reader;
use crate::config::report::{KeyPath, Wrong};
use crate::config::value::Parsed;
use crate::config::{Log, raw};

impl Reader<'_, '_> {
    /// `None` if any of it was reported.
    pub(super) fn log(&mut self, raw: raw::Log, at: &KeyPath) -> Option<Log> {
        let at = at.key("transfers");
        let transfers = self.optional(raw.transfers, &at, file);
        (!self.problems.has(&at)).then_some(Log { transfers })
    }
}

/// What a path is relative to differs between a shell and a service.
fn file(text: &str) -> Parsed<PathBuf> {
    const EXAMPLE: &str = "write the whole path of a file, like `/var/log/ftp-alg/xferlog`";
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(Wrong::new(format!("`{text}` is not an absolute path"), EXAMPLE));
    }
    if text.ends_with('/') {
        return Err(Wrong::new(format!("`{text}` is a directory"), EXAMPLE));
    }
    Ok(path)
}
