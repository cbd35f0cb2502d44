//! The data plane: listen, detect, decide, balance, forward, observe.

pub mod http1;
pub mod message;

#[cfg(test)]
mod untrusted;
