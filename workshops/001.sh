# 001: Istio 0.2, its sidecars added by hand. The half of this text with Linkerd 1 comes later.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "$THEIRS" ]; then
  cp -r "$THEIRS/001-linkerd1-istio0.2/istio-0.2.10/." .
else
  cp -r "$HERE/001/." .
  # The application of that time, in the API of that time: without selectors.
  mkdir -p samples/bookinfo/kube
  sed 's#^apiVersion: apps/v1$#apiVersion: extensions/v1beta1#; /^  selector:$/{N;/matchLabels/{N;N;d}}' \
    "$SAMPLES/bookinfo/bookinfo.yaml" >samples/bookinfo/kube/bookinfo.yaml
  { echo ---; cat samples/bookinfo/kube/ingress.yaml; } >>samples/bookinfo/kube/bookinfo.yaml
fi
"$IRONMESH" up --empty --detach # the text makes a cluster here

step 1.10 "istioctl version"
istioctl version >version
for line in Version GitRevision GitBranch User GolangVersion; do
  is "a line says $line" has "^$line: ." cat version
done

step 1.11 "install from a manifest"
kubectl apply -f install/kubernetes/istio.yaml >applied
is "the kinds of that time are known" has '^customresourcedefinition.apiextensions.k8s.io/routerules.config.istio.io created$' cat applied
for name in istio-ca istio-egress istio-ingress istio-mixer istio-pilot; do
  becomes "$name runs" has "^pod/$name-.* Running " kubectl get all --namespace istio-system
done
becomes "the mixer is 2/2" has '^pod/istio-mixer-.* 2/2 +Running ' kubectl get all --namespace istio-system

step 1.12 "sidecars by kube-inject"
kubectl apply -f <(istioctl kube-inject -f samples/bookinfo/kube/bookinfo.yaml)
becomes "six pods are 2/2" pods default 6 2/2
is "get all shows them" has '^deployment.apps/productpage-v1 +1/1 ' kubectl get all
istioctl kube-inject -f samples/bookinfo/kube/bookinfo.yaml >once
istioctl kube-inject -f once >twice
is "injecting twice changes nothing" cmp once twice
podName=$(kubectl get pod -l app=ratings -o jsonpath='{.items[0].metadata.name}')
becomes "the services find each other" has '<title>Simple Bookstore App</title>' kubectl exec $podName -c ratings -- curl -s productpage:9080/productpage

step 1.13 "Kubernetes' Ingress"
becomes "it says where it is served" has '^[0-9.]+$' kubectl get ingress gateway -o 'jsonpath={.status.loadBalancer.ingress[0].*}'
is "and shows it" has '^gateway +.*\* +[0-9.]+ +80 ' kubectl get ingress gateway
gateway
ISTIO_INGRESS=$(kubectl get ingress gateway -o "jsonpath={.status.loadBalancer.ingress[0].*}"):$INGRESS_PORT
becomes "the page is there" has '<title>Simple Bookstore App</title>' curl -s -m 10 "http://$ISTIO_INGRESS/productpage"
is "paths are exact" status 404 "http://$ISTIO_INGRESS/productpage/x"
is "but for one that ends in .*" status 200 "http://$ISTIO_INGRESS/api/v1/products/0"
is "what no path names is not there" status 404 "http://$ISTIO_INGRESS/"
# The page as a pod of the mesh gets it: the rules hold for the calls that productpage makes.
page() { kubectl exec "$podName" -c ratings -- curl -s productpage:9080/productpage; }
no_stars() { ! grep -q 'full stars' <<<"$(calls 10 page)"; }
half_stars() {
  calls 100 page >mfile
  between 35 "$(($(grep 'full stars' mfile | wc -l) / 2))" 65
}

step 1.14 "RouteRules that pin every service"
kubectl create -f samples/bookinfo/kube/route-rule-all-v1.yaml >created
is "each rule is created, and nothing more is said" cmp created - <<'EOT'
routerule.config.istio.io/productpage-default created
routerule.config.istio.io/reviews-default created
routerule.config.istio.io/ratings-default created
routerule.config.istio.io/details-default created
EOT
becomes "the pages have no stars" no_stars
is "explain names the rule" has 'default/reviews-default' "$IRONMESH" explain --from deploy/productpage-v1 GET http://reviews:9080/reviews/0

step 1.15 "half of the calls to v3"
kubectl replace -f samples/bookinfo/kube/route-rule-reviews-50-v3.yaml >replaced
is "the rule of that name is replaced" has '^routerule.config.istio.io/reviews-default replaced$' cat replaced
becomes "half of 100 pages have stars" half_stars
rm -f mfile
later 1.16 "the graph of Servicegraph" "metrics and their dashboards come with the store of telemetry"

step 1.17 "mutual TLS by another manifest"
kubectl delete -f install/kubernetes/istio.yaml >deleted 2>&1 || true # its namespace stays
is "what it made is gone" bash -c '! kubectl get deploy -n istio-system | grep -E "istio-(ca|egress|ingress|mixer|pilot) "'
is "the mesh keeps its own gateway" has '^istio-ingressgateway-.* 1/1 +Running' kubectl get pods -n istio-system
is "and says so" has 'namespaces "istio-system" is forbidden: the mesh has its gateway in it' cat deleted
kubectl apply -f install/kubernetes/istio-auth.yaml >applied
becomes "mutual TLS is on" has '^mtlsMode +STRICT' "$IRONMESH" settings mtlsMode
becomes "the application works" has '<title>Simple Bookstore App</title>' kubectl exec $podName -c ratings -- curl -s productpage:9080/productpage

step 1.18 "cleanup"
kubectl delete -f install/kubernetes/istio-auth.yaml >deleted 2>&1 || true # "some errors may appear"
kubectl delete -f install/kubernetes/istio.yaml >>deleted 2>&1 || true # it is gone already
istioctl get -n default routerules || true
kubectl delete -f samples/bookinfo/kube/bookinfo.yaml
kubectl delete -f samples/bookinfo/kube/bookinfo.yaml || true # twice is harmless
becomes "no pod of Bookinfo is left" has 'No resources found' kubectl get pods
is "no pod of that control plane is left" bash -c '! kubectl get all --namespace istio-system | grep -E "istio-(ca|egress|mixer|pilot)"'
