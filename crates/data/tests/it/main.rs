//! What the crate promises, from outside: one binary, since each costs a link.

mod epochs;
mod folders;
mod real;
mod verdicts;
