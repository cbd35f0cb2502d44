//! The proxy process of ironmesh and nothing else, so that what a request costs can be counted without
//! building the whole program.
//!
//! `bench-proxy internal proxy --bootstrap-fd N`, as the mesh starts its own.

use anyhow::Context;
use ironmesh_fds as fds;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [internal, proxy, flag, fd] = &arguments[..] else {
        anyhow::bail!("usage: bench-proxy internal proxy --bootstrap-fd N");
    };
    anyhow::ensure!(
        [internal, proxy, flag] == ["internal", "proxy", "--bootstrap-fd"],
        "not a proxy"
    );
    let document =
        fds::take_inherited(fd.parse()?).context("taking over the bootstrap document")?;
    let bootstrap = fds::read_json(document).context("reading the bootstrap document")?;
    Ok(ironmesh_proxy::run(bootstrap)?)
}
