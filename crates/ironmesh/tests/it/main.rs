//! The command against a real control plane: what a user types, and what comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]
#![expect(clippy::print_stdout, reason = "a test says when it cannot run here")]

mod addresses;
mod apply_rules;
mod composed;
mod egress;
mod endpoints;
mod entries;
mod gateways;
mod image_files;
mod images;
mod in_cluster;
mod kubectl;
mod kubectl_verbs;
mod local;
mod localities;
mod memory;
mod mesh;
mod mesh_verbs;
mod objects;
mod port_forward;
mod proxy_config;
mod registries;
mod rights;
mod run;
mod running;
mod samples;
mod sidecar;
mod texts;
mod tools;
mod trouble;
mod workload_groups;
mod workloads;
mod workshops;
