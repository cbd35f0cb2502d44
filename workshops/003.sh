# 003: Istio 1.0 by Helm, its sidecars added by hand.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mkdir istio && cd istio
if [ -n "$THEIRS" ]; then
  cp "$THEIRS"/003-istio1.0/*.yaml .
else
  cp "$HERE"/003/*.yaml .
fi
"$IRONMESH" up --empty --detach # the text has a cluster

versions() { grep -c "Welcome to Version $1" answers || true; }

step 3.0 "without a mesh: time-outs, and a split by the number of pods"
kubectl create -f retryBackend.yaml
kubectl create -f client.yaml
becomes "pods are 1/1" pods default 4 1/1
export clientPod=$(kubectl get pods -l app=client -o jsonpath="{.items[0].metadata.name}")
becomes "some calls answer" has '^OK' kubectl exec $clientPod -- curl -s -m 2 retry-service?failRate=1
becomes "a call that fails gets no answer in its time" bash -c \
  "! kubectl exec $clientPod -- curl -vs -m 2 retry-service?failRate=99"
becomes "the container that crashed is started again" has ' [1-9][0-9]*( \([^)]*\))? +[0-9a-z]+$' kubectl get pods -l app=retry --no-headers
kubectl create -f canary.yaml
becomes "six pods of the page are 1/1" pods default 6 1/1 -l app=myweb
becomes "the page answers" has 'Welcome to Version' kubectl exec $clientPod -c client -- curl -s myweb-service
kubectl exec $clientPod -c client -- bash -c 'for x in {1..60}; do curl -s myweb-service; done' >answers
is "half of 60 are version 2" between 15 "$(versions 2)" 45
kubectl delete -f retryBackend.yaml
kubectl delete -f client.yaml
kubectl delete -f canary.yaml

step 3.1 "install by Helm, without the webhook"
helm install ./istio-1.0.0-snapshot.1/install/kubernetes/helm/istio \
    --name istio \
    --namespace istio-system \
    --set sidecarInjectorWebhook.enabled=false,grafana.enabled=true,servicegraph.enabled=true,tracing.enabled=true
for app in grafana jaeger servicegraph; do
  becomes "a pod has app=$app" has ' 1/1 +Running ' kubectl get pods --namespace istio-system -l "app=$app"
done

later 3.2 "Grafana, Jaeger and Servicegraph" "metrics and their dashboards come with the store of telemetry"

step 3.3 "sidecars by kube-inject"
kubectl create -f <(istioctl kube-inject -i istio-system -f client.yaml)
kubectl create -f <(istioctl kube-inject -i istio-system -f retryBackend.yaml)
kubectl create -f <(istioctl kube-inject -i istio-system -f canary.yaml)
kubectl create -f <(istioctl kube-inject -i istio-system -f sniffer.yaml)
kubectl create -f <(istioctl kube-inject -i istio-system -f siege.yaml)
becomes "pods of what is here are 2/2" pods default 10 2/2 -l 'app in (client, retry, myweb)'
export clientPod=$(kubectl get pods -l app=client -o jsonpath="{.items[0].metadata.name}")
becomes "the container of the application has its name" has '^OK' kubectl exec $clientPod -c client -- curl -s -m 10 retry-service?failRate=1
is "without a name it is the application's" has '^OK' kubectl exec $clientPod -- curl -s -m 10 retry-service?failRate=1

step 3.4 "retries with a time-out of each"
kubectl exec $clientPod -c client -- curl -vs -m 10 retry-service?failRate=50 # answered or not
kubectl apply -f retryVirtualService.yaml
# A server that crashes a second time comes back after ten seconds, which is longer than this takes.
for call in 1 2 3 4; do
  is "call $call is answered" has '^OK' kubectl exec $clientPod -c client -- curl -s -m 10 retry-service?failRate=50
done

step 3.5 "a copy of the traffic"
kubectl apply -f copyVirtualService.yaml
export snifferPod=$(kubectl get pods -l app=sniffer -o jsonpath="{.items[0].metadata.name}")
becomes "the sniffer sees a call" bash -c \
  "kubectl exec $clientPod -c client -- curl -s -m 10 retry-service?failRate=1 >/dev/null; kubectl logs $snifferPod -c sniffer | grep -q 'GET /?failRate=1'"
seen() { kubectl logs $snifferPod -c sniffer | grep -c 'GET /?failRate=1' || true; }
before=$(seen)
kubectl exec $clientPod -c client -- bash -c 'for x in {0..20}; do curl -s -m 10 retry-service?failRate=1; done' >answers
is "callers are answered as before" between 19 "$(grep -o OK answers | wc -l)" 21
becomes "the sniffer sees them all in clear text" bash -c \
  "[ \$(kubectl logs $snifferPod -c sniffer | grep -c 'GET /?failRate=1') -ge $((before + 21)) ]"

step 3.6 "by default all alike"
becomes "the page answers" has 'Welcome to Version' kubectl exec $clientPod -c client -- curl -s myweb-service
for i in {1..10}; do kubectl exec $clientPod -c client -- curl -s myweb-service; done
kubectl exec $clientPod -c client -- bash -c 'for x in {1..120}; do curl -s myweb-service; done' >answers
is "half of 120 are version 2" between 40 "$(versions 2)" 80

step 3.7 "ten of a hundred"
kubectl apply -f canary10percent.yaml
becomes "version 1 is preferred" bash -c \
  "kubectl exec $clientPod -c client -- bash -c 'for x in {1..40}; do curl -s myweb-service; done' >answers; [ \$(grep -c 'Version 2' answers) -lt 13 ]"
kubectl exec $clientPod -c client -- bash -c 'for x in {1..300}; do curl -s myweb-service; done' >answers
is "10 of 100 are version 2" between 9 "$(versions 2)" 51
is "all answer" between 300 "$(versions '[12]')" 300

step 3.8 "a cookie decides"
kubectl delete -f canary10percent.yaml
kubectl apply -f canaryCookie.yaml
becomes "a tester sees version 2" has 'Version 2' kubectl exec $clientPod -c client -- curl -s --cookie "usertype=tester" myweb-service
kubectl exec $clientPod -c client -- bash -c 'for x in {1..20}; do curl -s myweb-service; done' >answers
is "others see version 1" between 20 "$(versions 1)" 20
kubectl exec $clientPod -c client -- bash -c 'for x in {1..20}; do curl -s --cookie "a=b;usertype=tester" myweb-service; done' >answers
is "another cookie beside it changes nothing" between 20 "$(versions 2)" 20
is "one that only begins so is another" has 'Version 1' kubectl exec $clientPod -c client -- curl -s --cookie "usertype=testerx" myweb-service

step 3.9 "what is outside is closed until it is named"
# The host of the internet is this machine's own here, seen from outside of the mesh.
kubectl create namespace internet
kubectl run httpbin -n internet --image=kennethreitz/httpbin --labels=app=httpbin --port=80
kubectl expose pod httpbin -n internet --type=LoadBalancer --port=8000 --target-port=80
becomes "the host has an address" has '^127' kubectl get svc httpbin -n internet -o jsonpath='{.status.loadBalancer.ingress[0].ip}'
becomes "the host is ready" pods internet 1 1/1
"$IRONMESH" external httpbin.org=$(kubectl get svc httpbin -n internet -o jsonpath='{.status.loadBalancer.ingress[0].ip}'):8000
becomes "it is closed" has 'HTTP/1.1 502' kubectl exec $clientPod -c client -- curl -vs -m 10 httpbin.org/ip
kubectl apply -f serviceEntry.yaml
becomes "it is open by its name" has '"origin"' kubectl exec $clientPod -c client -- curl -vs -m 10 httpbin.org/ip
is "another name is closed all the same" has 'HTTP/1.1 502' kubectl exec $clientPod -c client -- curl -vs -m 10 --resolve other.org:80:192.0.2.1 other.org/ip
kubectl delete namespace internet

step 3.10 "the gateway, by the name of a host"
kubectl delete -f canaryCookie.yaml
kubectl apply -f gateway.yaml
gateway
becomes "the page is there" has '^HTTP/1.1 200 OK' curl -s -m 10 -i "$GATEWAY_URL" -H Host:myweb-service.domain.com
is "it is the page" has 'Welcome to Version' curl -s -m 10 "$GATEWAY_URL" -H Host:myweb-service.domain.com
is "other hosts are not there" status 404 "http://$GATEWAY_URL" -H Host:other.domain.com
is "a finding says to what the VirtualService belongs" has 'IM0124' "$IRONMESH" findings

step 3.11 "round robin, random, and by a header"
kubectl apply -f lbRoundRobin.yaml
# asked COUNT [OPTION...]: who answers so many requests, a line each.
asked() {
  local count=$1
  shift
  kubectl exec $clientPod -c client -- bash -c "for x in {1..$count}; do curl -s $* myweb-service | tr '\\n' ' '; echo; done"
}
# in_turn: three of the page's answers come again and again in one order.
in_turn() {
  asked 9 >answers
  [ "$(sort -u answers | wc -l)" -eq 3 ] &&
    [ "$(sed -n 1,6p answers)" = "$(sed -n 4,9p answers)" ] && [ "$(grep -c 'Version 1' answers)" -eq 9 ]
}
becomes "the three of version 1 take turns" in_turn
kubectl apply -f lbRandom.yaml
drawn() {
  asked 30 >answers
  [ "$(sort -u answers | wc -l)" -eq 3 ] && [ "$(sed -n 1,27p answers)" != "$(sed -n 4,30p answers)" ]
}
becomes "at random there is no order" drawn
kubectl apply -f lbHeaderHash.yaml
one() { [ "$(asked 20 -H "'User: tomas'" | sort -u | wc -l)" -eq 1 ]; }
becomes "a user is served by one" one
is "always by the same" one
is "without the header by any of them" drawn

step 3.12 "a circuit breaker"
if command -v siege >/dev/null; then
  export siegePod=$(kubectl get pods -l app=siege -o jsonpath="{.items[0].metadata.name}")
  becomes "siege's pod is 2/2" pods default 1 2/2 -l app=siege
  is "it can call" has '^(200|503)$' kubectl exec $siegePod -c siege -- curl -s -m 10 -o /dev/null -w '%{http_code}' retry-service?failRate=50
fi
# at_once COUNT: how so many calls end that are made at one time, a line each.
at_once() {
  kubectl exec $clientPod -c client -- bash -c \
    "for x in {1..$1}; do curl -o /dev/null -w '%{http_code}\n' -s -m 10 myweb-service & done; wait" >codes
}
at_once 30
is "without it all are answered" between 30 "$(grep -c 200 codes)" 30
kubectl apply -f policyConnections.yaml
breaks() { at_once 30 && grep -q 503 codes && grep -q 200 codes; }
becomes "some of those that come at once are refused, and some are answered" breaks
is "nothing else happens" bash -c '! grep -Ev "^(200|503)$" codes'
becomes "the proxy logs an overflow" has ' 503 UO ' kubectl logs $clientPod -c istio-proxy
is "who comes alone is answered" has 'Welcome to Version' kubectl exec $clientPod -c client -- curl -s -m 10 myweb-service

step 3.13 "mutual TLS by name"
kubectl delete -f policyConnections.yaml
cat >mtls.yaml <<'YAML'
apiVersion: authentication.istio.io/v1alpha1
kind: MeshPolicy
metadata: {name: default}
spec: {peers: [{mtls: {}}]}
YAML
kubectl apply -f mtls.yaml
called() { kubectl exec $clientPod -c client -- curl -s -m 10 myweb-service; }
becomes "who has a sidecar is answered" has 'Welcome to Version' called
page_ip=$(kubectl get pods -l app=myweb -o jsonpath='{.items[0].status.podIP}')
kubectl create namespace outside
kubectl run plain -n outside --image=curlimages/curl --command -- sleep 1h
becomes "a pod without a sidecar runs" pods outside 1 1/1
becomes "and is refused" bash -c "! kubectl exec -n outside plain -- curl -s -m 10 $page_ip"
known() {
  called >/dev/null
  "$IRONMESH" proxy-config "$(kubectl get pods -l app=myweb,version=v1 -o jsonpath='{.items[0].metadata.name}')" --metrics |
    grep istio_requests_total | grep 'reporter="destination"' | grep 'connection_security_policy="mutual_tls"'
}
becomes "the page's proxy knows the caller by its name" has 'source_principal="spiffe://cluster.local/ns/default/sa/default"' known
kubectl delete -f mtls.yaml
becomes "without the policy it is answered as before" has 'Welcome' kubectl exec -n outside plain -- curl -s -m 10 $page_ip
kubectl delete namespace outside

step 3.14 "clean up"
kubectl delete -f . || true # names that stand in two files are not found the second time
helm delete istio --purge
becomes "no pod is left" has 'No resources found' kubectl get pods
becomes "nothing of the install is left" bash -c '! kubectl get pods -n istio-system | grep -E "grafana|jaeger|tracing|servicegraph|pilot"'
