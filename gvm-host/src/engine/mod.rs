//! The engine; `inspect` looks into modules without running them.
