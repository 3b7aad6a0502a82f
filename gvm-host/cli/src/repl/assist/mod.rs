//! What the line editor offers while a person types: completion, hints of parameters, highlighting.
//!
//! In: the half-typed line, and what is known without asking anyone that might be slow. Out: suggestions,
//! hints and styles in the line editor's own terms. Must not know: what the line will do, sockets.

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
