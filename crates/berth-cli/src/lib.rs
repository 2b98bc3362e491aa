//! Commands, configuration, output, prompts.
#![allow(dead_code)]
mod failure;
mod flags;
mod limits;
mod options;
mod output;
mod quote;
