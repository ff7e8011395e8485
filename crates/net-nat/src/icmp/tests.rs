//! Tests of errors, one file for each thing they do.

mod build;
mod parse;
mod rewrite;
mod rewrite_v6;
mod survive;
