# 000: connected microservices, its half with Istio 1.11 on two clusters. Here a cluster is a mesh of
# this machine, and a context its name.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "$THEIRS" ]; then
  cp -r "$THEIRS/000-istio1.11-linkerd2.10/Istio" "$THEIRS/000-istio1.11-linkerd2.10/derived" .
  # The database comes by a chart; this is what it makes.
  cp "$HERE/000/database.yaml" "$HERE/000/faults.yaml" derived/
else
  mkdir -p Istio/Examples && cp -r "$HERE/000/." Istio/Examples/ && mv Istio/Examples/derived .
  cp "$HERE/000/database.yaml" "$HERE/000/faults.yaml" derived/
  place Istio/Examples/BookInfo/bookinfo.yaml "$SAMPLES/bookinfo/bookinfo.yaml"
fi
istioPath=$PWD/Istio
gateways=$istioPath/Examples/Gateways
export CTX_CLUSTER1=$IRONMESH_MESH

step 0.1 "install into a cluster, by context and profile"
"$IRONMESH" up --empty --detach # the text makes a cluster here
kubectl get no --context=$CTX_CLUSTER1
kubectl get ns --context=$CTX_CLUSTER1
kubectl create namespace istio-system --context $CTX_CLUSTER1
kubectl create namespace primary --context $CTX_CLUSTER1
istioctl install --context=$CTX_CLUSTER1 --set profile=default -y
is "the gateway has ports http2 and https" has '^http2 https$' kubectl -n istio-system get svc istio-ingressgateway -o jsonpath='{.spec.ports[?(@.name=="http2")].name} {.spec.ports[?(@.name=="https")].name}'
is "the gateway is a LoadBalancer" has 'istio-ingressgateway +LoadBalancer' kubectl get svc -n istio-system
is "installing again changes nothing" istioctl install --context=$CTX_CLUSTER1 --set profile=default -y

step 0.2 "inject by a label of the namespace"
is "it is labelled" has '^namespace/primary labeled$' kubectl label namespace primary istio-injection=enabled --context=$CTX_CLUSTER1

later 0.3 "addons and the Kiali dashboard" "metrics and their dashboards come with the store of telemetry"

step 0.4 "Bookinfo, and a call from pod to pod"
kubectl apply -f $istioPath/Examples/BookInfo/bookinfo.yaml -n primary
kubectl get svc -n primary
becomes "six pods are 2/2" pods primary 6 2/2
podName=$(kubectl get pod -l app=ratings -n primary -o jsonpath='{.items[0].metadata.name}')
becomes "the page has its title" has '^<title>Simple Bookstore App</title>$' bash -c \
  "kubectl exec $podName -n primary -c ratings -- curl -sS productpage:9080/productpage | grep -o '<title>.*</title>'"

step 0.5 "the gateway, with a rewritten path"
kubectl apply -f $gateways/primary-gateway.yaml -n primary --context=$CTX_CLUSTER1
kubectl get svc istio-ingressgateway -n istio-system
gateway
echo "$GATEWAY_URL"
becomes "/product is the page" has '<title>Simple Bookstore App</title>' curl -s http://$GATEWAY_URL/product
is "/api/v1/products answers" status 200 http://$GATEWAY_URL/api/v1/products
is "what matches nothing is 404" status 404 http://$GATEWAY_URL/nothing
is "/product/x is 404" status 404 http://$GATEWAY_URL/product/x

later 0.6 "the graph of Kiali" "metrics and their dashboards come with the store of telemetry"

if [ -e "$XDG_CACHE_HOME/ironmesh/programs/mongodb-by-ferretdb-1.24.2" ] || command -v mongod >/dev/null; then
  step 0.7 "another application, its database outside the mesh"
  kubectl create ns aks-workshop-dev --context=$CTX_CLUSTER1
  kubectl label namespace aks-workshop-dev istio-injection=enabled --context=$CTX_CLUSTER1
  kubectl create ns db --context=$CTX_CLUSTER1
  kubectl apply -f derived/database.yaml -n db # by a chart in the text
  becomes "the database runs without a sidecar" pods db 1 1/1
  kubectl create secret generic aks-workshop-mongo-secret -n aks-workshop-dev --context=$CTX_CLUSTER1 \
    --from-literal=MONGOCONNECTION="mongodb://ratingsuser:ratingspwd@ratingsdb-mongodb.db:27017/ratingsdb"
  kubectl apply -n aks-workshop-dev -f derived/ratingsapi-chart.rendered.yaml
  kubectl apply -n aks-workshop-dev -f derived/ratingsweb-chart.rendered.yaml
  becomes "all pods are 2/2" pods aks-workshop-dev "$(kubectl get deploy -n aks-workshop-dev -o jsonpath='{.items[*].spec.replicas}' | tr ' ' '\n' | awk '{n += $1} END {print n}')" 2/2
  # Ages are in seconds, and no reader types as fast as this.
  becomes "the bookstore's routes are older" is_past "$(kubectl get virtualservices -n primary -o jsonpath='{.items[0].metadata.creationTimestamp}')"
  kubectl apply -f $gateways/ratings-gateway.yaml -n aks-workshop-dev --context=$CTX_CLUSTER1
  becomes "its page is at the same gateway" has '<title>Ratings</title>' curl -s http://$GATEWAY_URL/
  becomes "its API answers through the page" status 200 http://$GATEWAY_URL/api/items
  is "the bookstore is still there" status 200 http://$GATEWAY_URL/product

  step 0.8 "two routes for every host: the older one comes first"
  is "/static belongs to the bookstore, and the rating site's picture is missing" status 404 http://$GATEWAY_URL/static/img/favicon.ico
  cp $gateways/primary-gateway.yaml with-static.yaml
  sed '/- uri:/{N;/prefix: \/static/d}' with-static.yaml >without-static.yaml
  kubectl apply -f without-static.yaml -n primary --context=$CTX_CLUSTER1
  becomes "without /static the picture is there" status 200 http://$GATEWAY_URL/static/img/favicon.ico
  kubectl apply -f with-static.yaml -n primary --context=$CTX_CLUSTER1
  becomes "with it, it is missing" status 404 http://$GATEWAY_URL/static/img/favicon.ico
  kubectl delete -f $gateways/ratings-gateway.yaml -n aks-workshop-dev
else
  skipped 0.7 "another application, its database outside the mesh" "MongoDB is not here; a mesh builds FerretDB with Go in some minutes when it first needs it"
  skipped 0.8 "two routes for every host: the older one comes first" "follows 0.7"
fi

step 0.9 "traffic splitting"
kubectl apply -f $istioPath/Examples/HelloWorld/helloworld-app.yaml -n primary --context=$CTX_CLUSTER1
kubectl get po -n primary --context=$CTX_CLUSTER1
kubectl apply -f $gateways/primary-gateway.yaml -n primary --context=$CTX_CLUSTER1
kubectl apply -f $gateways/helloworld-destination-rule.yaml -n primary --context=$CTX_CLUSTER1
becomes "v1 answers" has '^Hello version: v1, instance: helloworld-v1-' curl -s http://$GATEWAY_URL/hello
is "a query changes nothing" status 200 "http://$GATEWAY_URL/hello?x=1"
kubectl apply -f $istioPath/Examples/HelloWorld/helloworld-app-v2.yaml -n primary --context=$CTX_CLUSTER1
kubectl get po -n primary --context=$CTX_CLUSTER1
becomes "v2 runs" pods primary 1 2/2 -l app=helloworld,version=v2
calls 20 curl -s http://$GATEWAY_URL/hello >hellos
is "v1 alone answers before the weights are edited" between 20 "$(grep -c 'version: v1' hellos)" 20
# "Update Primary Gateway Routes - Change Traffic weight", and uncomment v2 in the rule.
awk '/exact: \/hello/ {inside = 1}
     inside && /weight: 100/ {sub(/100/, "70"); print
       print "    - destination:\n        host: helloworld\n        subset: v2\n        port:\n          number: 5000\n      weight: 30"
       inside = 0; next} {print}' $gateways/primary-gateway.yaml >seventy.yaml
sed 's/^  # - name: v2/  - name: v2/; s/^  #   labels:/    labels:/; s/^  #     version: v2/      version: v2/' \
  $gateways/helloworld-destination-rule.yaml >both.yaml
kubectl apply -f seventy.yaml -n primary --context=$CTX_CLUSTER1
kubectl apply -f both.yaml -n primary --context=$CTX_CLUSTER1
becomes "v2 answers, too" has 'version: v2' curl -s http://$GATEWAY_URL/hello
calls 300 curl -s http://$GATEWAY_URL/hello >hellos
is "70 of 100 are v1" between 178 "$(grep -c 'version: v1' hellos)" 242
is "all the others are v2" between 300 "$(grep -c '^Hello version: v[12], instance: ' hellos)" 300

step 0.10 "fault injection"
kubectl apply -f derived/faults.yaml -n primary --context=$CTX_CLUSTER1 # a picture in the text
page=$(kubectl get pod -l app=productpage -n primary -o jsonpath='{.items[0].metadata.name}')
# ask URL [HEADER]: status and whole seconds of a call by the page's container.
ask() {
  kubectl exec "$page" -n primary -c productpage -- python3 -c '
import sys, time, urllib.error, urllib.request
begun, headers = time.monotonic(), dict([sys.argv[2].split(":")] if sys.argv[2:] else [])
try: code = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=headers)).status
except urllib.error.HTTPError as error: code = error.code
print(code, "late" if time.monotonic() - begun >= 7 else "soon")' "$@"
}
becomes "details fail with the status of the rule" has '^555 soon$' ask http://details:9080/details/0
for i in {1..24}; do ask http://ratings:9080/ratings/0 & done >asked
wait
is "all calls to ratings are answered" between 24 "$(grep -c '^200 ' asked)" 24
is "half of them 7 s late" between 3 "$(grep -c ' late$' asked)" 21
is "what another rule takes is not late" has '^200 soon$' ask http://ratings:9080/ratings/0 end-user:nobody
# Reviews wait for ratings for 2.5 s, the page for reviews for three, twice.
becomes "the page does without details" has 'Error fetching product details' curl -s http://$GATEWAY_URL/product
becomes "reviews do without ratings" has 'Ratings service is currently unavailable' curl -s http://$GATEWAY_URL/product
kubectl delete -f derived/faults.yaml -n primary --context=$CTX_CLUSTER1
later 0.11 "distributed tracing" "traces come with the store of telemetry"

step 0.12 "blue and green"
kubectl apply -f $istioPath/Examples/BlueGreen/podinfo-blue.yaml -n primary --context=$CTX_CLUSTER1
is "without the rule that names the versions it is 503" status 503 http://$GATEWAY_URL/podinfo
kubectl apply -f $istioPath/Examples/BlueGreen/podinfo-green.yaml -n primary --context=$CTX_CLUSTER1
kubectl apply -f $gateways/podinfo-destination-rule.yaml -n primary # no step of the text does it
becomes "blue and green run, each with one sidecar" pods primary 2 2/2 -l app=podinfo
becomes "podinfo answers" status 200 http://$GATEWAY_URL/podinfo
is "/podinfo/version is 404" status 404 http://$GATEWAY_URL/podinfo/version
calls 300 curl -s http://$GATEWAY_URL/podinfo >podinfos
is "10 of 100 are blue" between 9 "$(grep -c '"version": *"1.7.0"' podinfos)" 51
is "90 of 100 are green" between 249 "$(grep -c '"version": *"1.7.1"' podinfos)" 291

step 0.13 "mirroring to another cluster"
export CTX_CLUSTER2=$IRONMESH_MESH-2
trap 'record; for mesh in "$IRONMESH_MESH" "$CTX_CLUSTER2"; do "$IRONMESH" --mesh "$mesh" down; done >/dev/null 2>&1' EXIT
"$IRONMESH" --mesh $CTX_CLUSTER2 up --empty --detach # the text makes a second cluster
kubectl create namespace istio-system --context $CTX_CLUSTER2
kubectl create namespace primary --context $CTX_CLUSTER2
istioctl install --context=$CTX_CLUSTER2 --set profile=default -y
kubectl label namespace primary istio-injection=enabled --context=$CTX_CLUSTER2
kubectl apply -f $istioPath/Examples/HelloWorld/helloworld-app-v2.yaml -n primary --context=$CTX_CLUSTER2
kubectl get svc helloworld -n primary --context=$CTX_CLUSTER2 ||
  kubectl expose deployment helloworld-v2 --name=helloworld --port=5000 -n primary --context=$CTX_CLUSTER2 # our file has none
kubectl apply -f $gateways/helloworld-v2-gateway.yaml -n primary --context=$CTX_CLUSTER2
kubectl apply -f $gateways/helloworld-v2-destination-rule.yaml -n primary --context=$CTX_CLUSTER2
other=$(kubectl -n istio-system get service istio-ingressgateway --context=$CTX_CLUSTER2 -o jsonpath='{.status.loadBalancer.ingress[0].ip}:{.spec.ports[?(@.name=="http2")].port}')
becomes "v2 answers in the second cluster" has 'version: v2' curl -s http://$other/hello
url=$("$IRONMESH" --mesh $CTX_CLUSTER2 status -o url) # an ordinary user's port 80 is another one on the host
"$IRONMESH" external hellov2.wkshpdev.com=${url#http://} # a record of DNS in the text
kubectl apply -f $gateways/primary-gateway.yaml -n primary --context=$CTX_CLUSTER1 # the weights of before
calls 10 curl -s -m 10 http://$GATEWAY_URL/hello >hellos
is "before the ServiceEntry is there callers notice nothing" between 10 "$(grep -c 'version: v1' hellos)" 10
kubectl apply -f $gateways/helloworld-serviceentry.yaml -n primary --context=$CTX_CLUSTER1
copies() { kubectl logs -l app=helloworld -c istio-proxy -n primary --tail=-1 --context=$CTX_CLUSTER2 | grep -cE -- '-shadow(:[0-9]+)?"' || true; }
becomes "a copy comes to the second cluster" bash -c "curl -s -m 10 http://$GATEWAY_URL/hello; kubectl logs -l app=helloworld -c istio-proxy -n primary --tail=-1 --context=$CTX_CLUSTER2 | grep -qE -- '-shadow(:[0-9]+)?\"'"
before=$(copies)
calls 200 curl -s -m 10 http://$GATEWAY_URL/hello >hellos
is "callers see v1 alone" between 200 "$(grep -c 'version: v1' hellos)" 200
some() { between $((before + 70)) "$(copies)" $((before + 130)); }
becomes "half of the calls are seen there, too" some
"$IRONMESH" --mesh $CTX_CLUSTER2 down
