//! Where metrics and live sessions are to be had.

use super::{Reader, raw, value};
use crate::config::Admin;
use crate::config::report::KeyPath;

impl Reader<'_, '_> {
    /// `None` if it could not be read.
    pub(super) fn admin(&mut self, raw: raw::Admin, at: &KeyPath) -> Option<Admin> {
        const EXAMPLE: &str = "`bind: 127.0.0.1:9121`, where this machine alone can connect";
        let bind = self.required(raw.bind, &at.key("bind"), value::admin_bind, EXAMPLE)?;
        Some(Admin { bind })
    }
}
