//! Questions that are posted and not kept: who somebody is, what they may do, and tokens.

use std::time::Duration;

use http::{Method, StatusCode};
use ironmesh_dialects::kinds::Resource;
use ironmesh_identity::api::{API_AUDIENCE, AccountToken, Bound, NameAndUid};
use ironmesh_identity::{Clock, SystemClock};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::request::{ApiRequest, Target};
use crate::access::{Action, LEASES, PATHS, READABLE, Role, SELF_REVIEWS, User, WRITES};
use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::object;
use crate::store::Collection;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Review {
    /// Whether the caller may do something (`kubectl auth can-i`).
    OwnAccess,
    /// Whether somebody may.
    Access,
    /// What the caller may do (`kubectl auth can-i --list`).
    OwnRules,
    /// Who the caller is (`kubectl auth whoami`).
    Own,
    /// Whose token something is.
    Token,
}

/// The group, the plural, the kind and the meaning of each question.
pub(super) const REVIEWS: [(&str, &str, &str, Review); 5] = [
    (AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", Review::OwnAccess),
    (AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", Review::Access),
    (AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview", Review::OwnRules),
    (AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", Review::Own),
    (AUTHENTICATION, "tokenreviews", "TokenReview", Review::Token),
];
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

impl Review {
    /// The question that is posted to a path; old versions of it have the same fields.
    pub(super) fn of(group: &str, version: &str, plural: &str) -> Option<Self> {
        let found = REVIEWS.iter().find(|(g, p, ..)| (*g, *p) == (group, plural))?;
        matches!(version, "v1" | "v1beta1").then_some(found.3)
    }

    /// Answers it.
    pub(super) fn answer(self, context: &Context, request: &ApiRequest) -> Result<Answer, Failure> {
        if request.method != Method::POST {
            return Err(Failure::method_not_allowed());
        }
        let named = REVIEWS.iter().find(|(.., review)| *review == self);
        let (group, resource) = named.map_or(("", ""), |(group, plural, ..)| (group, plural));
        let create =
            Action::Resource { verb: "create", group, resource, subresource: "", namespace: "" };
        request.user.check(&create)?;
        let mut review = request.json()?;
        if !review.is_object() {
            return Err(Failure::bad_request("the body is no JSON object"));
        }
        review["status"] = match self {
            Self::OwnAccess => access(&request.user, &review["spec"])?,
            Self::Access => access(&subject(&review["spec"]), &review["spec"])?,
            Self::OwnRules => {
                rules(&request.user, review["spec"]["namespace"].as_str().unwrap_or_default())
            }
            Self::Own => json!({"userInfo": user_info(&request.user)}),
            Self::Token => token(context, &review["spec"]),
        };
        Ok(answer::json(StatusCode::CREATED, &review))
    }
}

/// Whether a user may do what a question asks about.
fn access(user: &User, spec: &Value) -> Result<Value, Failure> {
    let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let action = if spec["resourceAttributes"].is_object() {
        Action::Resource {
            verb: text("/resourceAttributes/verb"),
            group: text("/resourceAttributes/group"),
            resource: text("/resourceAttributes/resource"),
            subresource: text("/resourceAttributes/subresource"),
            namespace: text("/resourceAttributes/namespace"),
        }
    } else if spec["nonResourceAttributes"].is_object() {
        let (verb, path) =
            (text("/nonResourceAttributes/verb"), text("/nonResourceAttributes/path"));
        Action::Path { verb, path }
    } else {
        return Err(Failure::unprocessable(
            "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    };
    Ok(match user.may(&action) {
        true => json!({"allowed": true}),
        false => json!({"allowed": false, "reason": REASON}),
    })
}

/// Whom a question is about.
fn subject(spec: &Value) -> User {
    let name = spec["user"].as_str().unwrap_or_default();
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups: Vec<String> = groups.filter_map(|g| g.as_str().map(str::to_owned)).collect();
    let role = if groups.iter().any(|group| group == "system:masters") {
        Role::Administrator
    } else if name.starts_with("system:serviceaccount:") {
        Role::Account
    } else {
        Role::Nobody
    };
    User { name: name.to_owned(), uid: String::new(), groups, role }
}

/// What a user may do in a namespace.
fn rules(user: &User, namespace: &str) -> Value {
    let read = json!(["get", "list", "watch"]);
    let mut resources: Vec<_> = SELF_REVIEWS
        .iter()
        .map(|(group, resource)| {
            json!({"verbs": ["create"], "apiGroups": [group], "resources": [resource]})
        })
        .collect();
    let mut paths = Vec::new();
    match user.role {
        Role::Administrator => {
            resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        Role::Account => {
            resources.push(json!({
                "verbs": ["create"], "apiGroups": [AUTHENTICATION], "resources": ["tokenreviews"],
            }));
            resources.extend(READABLE.iter().map(|(group, plurals)| {
                let plurals = if plurals.is_empty() { json!(["*"]) } else { json!(plurals) };
                json!({"verbs": read, "apiGroups": [group], "resources": plurals})
            }));
            if user.account_namespace() == Some(namespace) {
                let (group, plural) = LEASES;
                resources
                    .push(json!({"verbs": WRITES, "apiGroups": [group], "resources": [plural]}));
            }
            let urls = PATHS.iter().flat_map(|path| [format!("/{path}"), format!("/{path}/*")]);
            let urls: Vec<_> = urls.collect();
            paths.push(json!({"verbs": ["get"], "nonResourceURLs": urls}));
        }
        Role::Nobody => {}
    }
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    info
}

/// Whose token something is.
fn token(context: &Context, spec: &Value) -> Value {
    let asked = spec["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> =
        asked.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(API_AUDIENCE.to_owned());
    }
    let text = spec["token"].as_str().unwrap_or_default();
    match context.access.account(&context.registry, text, &audiences) {
        Ok((token, audiences)) => {
            let mut user = user_info(&User::of_account(&token));
            if let Some(pod) = &token.bound.pod {
                user["extra"] = json!({
                    "authentication.kubernetes.io/pod-name": [pod.name],
                    "authentication.kubernetes.io/pod-uid": [pod.uid],
                });
            }
            json!({"authenticated": true, "user": user, "audiences": audiences})
        }
        Err(why) => json!({"authenticated": false, "error": why}),
    }
}

/// `serviceaccounts/NAME/token`: makes a token of an account, bound to a pod or Secret if one is named.
pub(super) fn request_token(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
) -> Result<Answer, Failure> {
    if request.method != Method::POST || &*target.resource.plural != "serviceaccounts" {
        return Err(Failure::method_not_allowed());
    }
    let name = target.name.as_deref().unwrap_or_default();
    let account = context.registry.object(&target.resource, &target.key(name))?;
    let namespace = object::namespace(&account).to_owned();
    let mut asked = request.json()?;
    if !asked.is_object() {
        return Err(Failure::bad_request("the body is no JSON object"));
    }
    let spec = &asked["spec"];
    let seconds = match &spec["expirationSeconds"] {
        Value::Null => DEFAULT_SECONDS,
        seconds => seconds.as_u64().filter(|seconds| *seconds >= SECONDS_MIN).ok_or_else(|| {
            Failure::unprocessable(format!(
                "spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            ))
        })?,
    };
    let most = context.registry.limits().account_token_lifetime_max;
    let lifetime = Duration::from_secs(seconds).min(most);
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> =
        audiences.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(API_AUDIENCE.to_owned());
    }
    let mut bound = Bound {
        namespace: namespace.clone(),
        serviceaccount: NameAndUid { name: name.to_owned(), uid: object::uid(&account).to_owned() },
        pod: None,
        secret: None,
    };
    bind(context, &spec["boundObjectRef"], &namespace, name, &mut bound)?;
    let token = AccountToken::new(bound, audiences.clone(), SystemClock.now(), lifetime);
    let expires = i64::try_from(token.expires).ok().and_then(|at| Timestamp::from_second(at).ok());
    asked["kind"] = "TokenRequest".into();
    asked["apiVersion"] = "authentication.k8s.io/v1".into();
    asked["metadata"] = json!({"name": name, "namespace": namespace});
    asked["spec"]["audiences"] = audiences.into();
    asked["spec"]["expirationSeconds"] = lifetime.as_secs().into();
    asked["status"] = json!({
        "token": context.access.key.sign(&token),
        "expirationTimestamp": expires.map(clock::rfc3339),
    });
    Ok(answer::json(StatusCode::CREATED, &asked))
}

/// Binds a token to the object that is named: it must be there, and a pod must be of the account.
fn bind(
    context: &Context,
    reference: &Value,
    namespace: &str,
    account: &str,
    bound: &mut Bound,
) -> Result<(), Failure> {
    if reference.is_null() {
        return Ok(());
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, slot) = match kind {
        "Pod" => ("pods", &mut bound.pod),
        "Secret" => ("secrets", &mut bound.secret),
        other => {
            return Err(Failure::unprocessable(format!(
                "spec.boundObjectRef.kind: Invalid value: {other:?}: cannot bind token to it"
            )));
        }
    };
    let key = Collection::core(plural).key(namespace, name);
    let object = context.registry.object(&Resource::of("v1", kind), &key)?;
    if !uid.is_empty() && uid != object::uid(&object) {
        return Err(Failure::unprocessable(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record"
        )));
    }
    let own = object.pointer("/spec/serviceAccountName").and_then(Value::as_str);
    if plural == "pods" && own.unwrap_or("default") != account {
        return Err(Failure::unprocessable(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name"
        )));
    }
    *slot = Some(NameAndUid { name: name.to_owned(), uid: object::uid(&object).to_owned() });
    Ok(())
}

/// How long a token is valid, if nobody says.
const DEFAULT_SECONDS: u64 = 3_600;
/// What may be asked for at least, as in Kubernetes: 10 minutes.
const SECONDS_MIN: u64 = 600;
const REASON: &str = "accounts of pods have one fixed role: they read what is not secret, \
                      and write nothing";
