//! Files from elsewhere.
use crate::Result;
use std::path::PathBuf;
pub fn fetch(address: &str) -> Result<PathBuf> {
    Err(sokd_core::Error::setting("hub", address).into())
}
pub fn download(_: &sokd_data::Entry, _: &std::path::Path, _: &crate::cli::Session) -> Result<()> {
    Err(sokd_core::Error::setting("hub", "").into())
}
