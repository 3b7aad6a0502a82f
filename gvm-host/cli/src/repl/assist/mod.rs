//! Help while the user types: completion, hints and highlighting.
//!
//! In: the typed text; the names that the node knows. Out: suggestions, hints and styles, in types of the
//! line editor. Must not know: how statements run, sockets.

mod complete;
mod highlight;
mod hint;
mod known;
pub(super) mod lex;
mod menu;
mod place;
mod signature;
mod values;

pub use complete::Complete;
pub use highlight::Highlight;
pub use hint::Hint;
pub use known::Names;
pub use menu::Offered;
