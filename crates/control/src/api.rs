//! What clients of the control plane share with it: the types of the parts of its API that are not
//! Kubernetes'.

pub mod explain;
pub mod mesh;

pub use explain::{ExplainRequest, Explanation, Hop};
pub use mesh::{FindingItem, ProxyEndpoints, ProxyItem, ResourceError};
