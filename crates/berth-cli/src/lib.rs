//! Commands, configuration, output, prompts.
