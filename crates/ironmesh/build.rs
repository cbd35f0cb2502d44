//! How `ironmesh` is linked.

/// At fixed addresses on Linux with glibc: the kernel would have to relocate 0.65 MB of each process
/// otherwise, which no process then shares with the others, and a mesh has two processes for each pod.
/// Stacks, heaps and libraries are still at random addresses. `IRONMESH_PIE=1` links it as others are.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=IRONMESH_PIE");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is_glibc && !is("IRONMESH_PIE", "1") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
