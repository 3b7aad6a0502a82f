//! Modules of strangers, before they are compiled.
//!
//! In: a module, in text or binary. Out: a panic if the two ways to judge it disagree. Must not know: how it is run.

use gvm_host::{inspect, offered};

/// Larger text is not read as WebAssembly text: the parser takes long for some.
const TEXT: usize = 64 << 10;

pub fn target(data: &[u8]) {
    if data.len() > TEXT && !data.starts_with(b"\0asm") {
        return;
    }
    let Ok(binary) = inspect::to_binary(data) else { return };
    let inspected = inspect::inspect(&binary);
    let runnable = inspect::runnable(&binary);
    if let (Ok(info), Ok(imports)) = (&inspected, &runnable) {
        assert_eq!(&info.wanting, imports);
        offered::missing(imports);
        info.exports.iter().for_each(|export| drop(export.signature()));
    }
    if let Err(error) = &inspected {
        assert!(!error.message().is_empty());
    }
}
