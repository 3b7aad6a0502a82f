//! `gvm demo`: a private network in this process, to try the product without setting anything up.

use super::options::Options;
use gvm_host::error::Result;

pub fn demo(_: &Options) -> Result<i32> {
    Ok(0)
}
