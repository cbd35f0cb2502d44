//! What clients of the control plane share with it: the table of kinds and the types of the parts
//! of its API that are not Kubernetes'.

pub mod explain;
pub mod kinds;
pub mod lists;
pub mod mesh;

pub use explain::{ExplainRequest, Explanation, Hop};
pub use kinds::{KINDS, Kind, Resource};
pub use mesh::{FindingItem, ProxyEndpoints, ProxyItem, ResourceError};
