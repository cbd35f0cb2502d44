//! Fields of SMI's kinds.

use serde_json::Value;

use crate::schema::{Quantity, fields, kind};

kind! {
    kubernetes;
    /// Shares of the traffic to a service that go to others.
    pub struct TrafficSplit "TrafficSplit" {
        /// The service and the others.
        required spec: Spec,
    }

    /// Conditions on requests, for other objects to name.
    pub struct HttpRouteGroup "HTTPRouteGroup" {
        /// The conditions.
        honoured spec: GroupSpec,
        /// The conditions, as they were written before v1alpha3.
        honoured matches: Vec<HttpMatch>,
    }
}

fields! {
    kubernetes;
    /// What a `TrafficSplit` says.
    pub struct Spec "TrafficSplit.spec" {
        /// The service that callers name.
        required service: String,
        /// Where its traffic goes.
        honoured backends: Vec<SplitBackend>,
        /// The requests that it is for, by HTTPRouteGroups of the namespace; none: everything.
        honoured matches: Vec<Reference>,
    }

    /// A service and its share.
    pub struct SplitBackend "a backend" {
        /// The service.
        required service: String,
        /// Its share in relation to the sum of all; before v1alpha2 a quantity, such as `900m`.
        honoured weight: Quantity,
    }

    /// An object of the namespace.
    pub struct Reference "a reference" {
        /// Its group.
        honoured api_group "apiGroup": String,
        /// Its kind.
        required kind: String,
        /// Its name.
        required name: String,
    }

    /// What an `HTTPRouteGroup` says.
    pub struct GroupSpec "HTTPRouteGroup.spec" {
        /// The conditions, of which one must hold.
        honoured matches: Vec<HttpMatch>,
    }

    /// Conditions on a request, all of which must hold.
    pub struct HttpMatch "a match" {
        /// Its name.
        honoured name: String,
        /// Methods, of which it has one; `*`: any.
        honoured methods: Vec<String>,
        /// All of its path matches this expression.
        honoured path_regex "pathRegex": String,
        /// Headers by name, of which all match these expressions.
        honoured headers: Value,
    }
}
