//! Netlink, as much of it as the mesh needs: messages, batches and named errors.
