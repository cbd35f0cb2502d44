//! The data plane: listen, detect, decide, balance, forward, observe.

pub mod message;
