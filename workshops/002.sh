# 002: Istio 1.14 on one machine. No cluster is made before: `istioctl install` starts the mesh.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "$THEIRS" ]; then
  cp "$THEIRS/002-istio1.14/samples/bookinfo/platform/kube/bookinfo.yaml" .
  cp "$THEIRS/002-istio1.14/samples/bookinfo/networking/bookinfo-gateway.yaml" .
  cp -r "$THEIRS/002-istio1.14/samples/addons" .
else
  place bookinfo.yaml "$SAMPLES/bookinfo/bookinfo.yaml"
  place bookinfo-gateway.yaml "$SAMPLES/bookinfo/gateway.yaml"
  place addons/addons.yaml "$SAMPLES/addons/addons.yaml"
fi

step 2.1 "precheck, and an install that asks first"
is "nothing speaks against it" has 'No issues found' istioctl x precheck
echo n | istioctl install >refused || true
is "it asks" has 'This will install the Istio .*default profile with \["Istio core" "Istiod" "Ingress gateways"\] components into the cluster. Proceed\? \(y/N\)' cat refused
is "without a yes there is no mesh" bash -c '! kubectl get pods'
echo y | istioctl install >installed
is "it says what it did" has 'Making this installation the default for injection and validation' cat installed
is "it thanks" has '^Thank you for installing Istio' cat installed
becomes "istiod and the gateway run" pods istio-system 2 1/1
is "Service istiod has its ports" has 'istiod +ClusterIP .* 15010/TCP,15012/TCP,443/TCP,15014/TCP' kubectl get svc -n istio-system

step 2.2 "an application from before the label has no sidecars"
kubectl apply -f bookinfo.yaml
becomes "six pods are 1/1" pods default 6 1/1

step 2.3 "label the namespace"
is "no label is there" has '^default +Active +[^ ]+ +kubernetes.io/metadata.name=default$' kubectl get ns default --show-labels
is "it is labelled" has '^namespace/default labeled$' kubectl label namespace default istio-injection=enabled
is "the labels are sorted" has '^default +Active +[^ ]+ +istio-injection=enabled,kubernetes.io/metadata.name=default$' kubectl get ns default --show-labels

step 2.4 "made again, it has sidecars"
is "each object is said" has '^deployment.apps "productpage-v1" deleted' kubectl delete -f bookinfo.yaml
kubectl apply -f bookinfo.yaml
becomes "six pods are 2/2" pods default 6 2/2
is "an init container sets them up" has '^istio-init$' kubectl get pods -l app=details -o jsonpath='{.items[0].spec.initContainers[0].name}'

step 2.5 "the page at the gateway"
kubectl apply -f bookinfo-gateway.yaml
gateway
echo "http://$GATEWAY_URL/productpage"
becomes "the page is there" has '<title>Simple Bookstore App</title>' curl -s "http://$GATEWAY_URL/productpage"
is "/product is 404" status 404 "http://$GATEWAY_URL/product"

step 2.6 "addons: their pods, Services and ports"
kubectl apply -f addons
kubectl rollout status deployment/kiali -n istio-system
for name in grafana jaeger kiali prometheus; do
  becomes "$name runs" has "^$name-.* ([0-9])/\\1 +Running" kubectl get po -n istio-system
done
kubectl get svc -n istio-system >services
while read -r name ports; do
  is "Service $name has its ports" has "^$name .* $ports( |,)" cat services
done <<'LIST'
grafana 3000/TCP
istiod 15010/TCP,15012/TCP,443/TCP,15014/TCP
kiali 20001/TCP
prometheus 9090/TCP
zipkin 9411/TCP
LIST

step 2.7 "a dashboard beside a port-forward"
(exec kubectl port-forward svc/kiali -n istio-system 20001 >forwarded 2>&1) &
forward=$!
becomes "it forwards, or somebody else has the port" has '^Forwarding from .*:20001 -> 20001$|Unable to listen' cat forwarded
(exec istioctl dashboard kiali >dashboard 2>&1) &
dashboard=$!
becomes "a URL is printed" has '^http://localhost:[0-9]+/kiali$' cat dashboard
is "the port is said to be taken" has '^Unable to listen on port 20001: Listeners failed to create' cat dashboard
is "the page is there" has 'kiali' curl -s "$(grep -o 'http://localhost:[0-9]*/kiali' dashboard)"
kill $dashboard $forward 2>/dev/null || true

later 2.8 "a graph from live traffic" "metrics and their dashboards come with the store of telemetry"
