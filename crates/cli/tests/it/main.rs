//! The command against a real control plane: what a user types, and what comes back.

mod mesh;

mod objects;
