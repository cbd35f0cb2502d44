//! Programs in pods come to the API as in any cluster: by its Service, with the token of their account.

use crate::running::{Running, as_every_user, await_some, samples};

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {word: hidden}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: shy}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Pod
metadata: {name: meshed, namespace: shop}
spec: {containers: [{name: c, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  enableServiceLinks: false
  containers: [{name: c, image: ironmesh/sleep, volumeMounts: [{name: vault, mountPath: /vault}]}]
  volumes:
  - name: vault
    projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: without}
spec: {automountServiceAccountToken: false, containers: [{name: c, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shy}
spec: {serviceAccountName: shy, containers: [{name: c, image: ironmesh/sleep}]}
";

/// What the API answers to a pod: the status, and the beginning of the body.
fn ask(mesh: &Running, pod: &str, options: &str, path: &str) -> String {
    let script = format!(
        "cd /var/run/secrets/kubernetes.io/serviceaccount; \
         curl -sS -m 20 -w '%{{stderr}}%{{http_code}}\\n' --cacert ca.crt {options} \
         https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT{path} 2>&1"
    );
    let (namespace, pod) = pod.split_once('/').unwrap_or(("default", pod));
    mesh.run(&["-n", namespace, "exec", pod, "--", "sh", "-c", &script]).out
}

#[test]
fn programs_in_pods_read_the_api_and_neither_write_it_nor_read_secrets() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    as_every_user(PODS, &[], |mesh| {
        let token = "-H \"Authorization: Bearer $(cat token)\"";
        for pod in ["shop/meshed", "plain"] {
            let said = ask(mesh, pod, token, "/api/v1/namespaces/default/pods/plain");
            assert!(said.contains("\"name\":\"plain\"") && said.contains("200"), "{pod}: {said}");
            for (options, path) in [
                ("", "/api/v1/namespaces/default/secrets/secret"),
                ("-X DELETE", "/api/v1/namespaces/default/pods/without"),
                ("-X POST -d {}", "/api/v1/namespaces/default/pods"),
                ("-H 'Impersonate-User: ironmesh-admin'", "/api/v1/namespaces/default/secrets"),
                ("", "/ironmesh/kubeconfig"),
                ("", "/api/v1/namespaces/default/pods/without/exec?command=id"),
            ] {
                let said = ask(mesh, pod, &format!("{token} {options}"), path);
                assert!(said.contains("403") && !said.contains("hidden"), "{pod} {path}: {said}");
            }
            let said = ask(mesh, pod, "", "/version");
            assert!(said.contains("401") && !said.contains("gitVersion"), "{pod}: {said}");
        }
        let files = |pod: &str| {
            let script = "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace";
            mesh.run(&["exec", pod, "--", "sh", "-c", script]).out
        };
        assert_eq!(["plain", "without", "shy"].map(files), ["default", "", ""]);
        // The token for somebody else is none for the API.
        let vault = "-H \"Authorization: Bearer $(cat /vault/token)\"";
        let said = ask(mesh, "plain", vault, "/api/v1/pods");
        assert!(said.contains("401"), "{said}");
        // What a pod had is worth nothing when it is gone.
        let cat = "cat /var/run/secrets/kubernetes.io/serviceaccount/token";
        let old = mesh.ok(&["-n", "shop", "exec", "meshed", "--", "sh", "-c", cat]);
        mesh.ok(&["-n", "shop", "delete", "pod", "meshed"]);
        let stolen = format!("-H 'Authorization: Bearer {}'", old.trim());
        let said = ask(mesh, "plain", &stolen, "/api/v1/pods");
        assert!(said.contains("401"), "{said}");
    });
}

const PLAIN: &str = "
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec: {containers: [{name: c, image: ironmesh/sleep}]}
";

/// A program that reads its token anew for each call goes on when the one that it began with has run out.
#[test]
fn tokens_are_renewed_before_they_run_out() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let short = ["--set", "limits.control.account_token_lifetime_max=20s"];
    as_every_user(PLAIN, &short, |mesh| {
        // What is secret of the administrator is shown to who asks for it alone.
        let view = mesh.ok(&["config", "view", "--minify"]);
        assert!(view.contains("token: REDACTED") && view.contains("server: https://"), "{view}");
        assert!(!mesh.ok(&["config", "view", "--minify", "--raw"]).contains("REDACTED"));
        let path = "/api/v1/namespaces/default/pods/plain";
        let cat = "cat /var/run/secrets/kubernetes.io/serviceaccount/token";
        let first = mesh.ok(&["exec", "plain", "--", "sh", "-c", cat]);
        let with_first = format!("-H 'Authorization: Bearer {}'", first.trim());
        await_some("the end of the first token", || {
            let own = ask(mesh, "plain", "-H \"Authorization: Bearer $(cat token)\"", path);
            assert!(own.contains("\"name\":\"plain\""), "{own}");
            ask(mesh, "plain", &with_first, path).contains("401").then_some(())
        });
        let own = ask(mesh, "plain", "-H \"Authorization: Bearer $(cat token)\"", path);
        assert!(own.contains("\"name\":\"plain\""), "{own}");
    });
}
