//! Translation and permission: what is announced to whom, and what may be dialled. Pure.

pub mod map;
pub mod policy;
