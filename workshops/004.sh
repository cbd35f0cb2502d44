# 004: a voting application on Istio 1.3, by Helm, with mutual TLS. The text's PowerShell is bash here.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "$THEIRS" ]; then
  cp -r "$THEIRS/004-istio1.3-voting/kubernetes" "$THEIRS/004-istio1.3-voting/istio" "$THEIRS/004-istio1.3-voting/inline-from-seed" .
else
  cp -r "$HERE/004/." .
  place kubernetes/step-1-create-voting-app.yaml "$SAMPLES/voting/voting.yaml"
  place kubernetes/step-2-update-voting-analytics-to-1.1.yaml "$SAMPLES/voting/analytics-1.1.yaml"
  place istio/step-1-create-voting-app-gateway.yaml "$SAMPLES/voting/gateway.yaml"
  place kubernetes/step-3-update-voting-app-with-new-storage.yaml "$SAMPLES/voting/voting-2.0.yaml"
  place istio/step-2-update-and-add-routing-for-all-components.yaml "$SAMPLES/voting/routing/own-versions.yaml"
  place istio/step-3-add-routing-for-2.0-components.yaml "$SAMPLES/voting/routing/feature-flag.yaml"
fi
"$IRONMESH" up --empty --detach # the text has a cluster
page() { curl -s -m 10 "http://$GATEWAY_URL" "$@"; }

step 4.1 "the kinds, by a chart with jobs"
is "the node is ready" has ' Ready ' kubectl get nodes
is "the default namespace is there" has '^default +Active ' kubectl get ns
helm repo add istio.io https://storage.googleapis.com/istio-release/releases/1.3.2/charts/
helm repo update
helm init
helm install istio.io/istio-init --name istio-init --namespace istio-system
for number in 10 11 12; do
  becomes "job $number is done" has "^istio-init-crd-$number-1.3.2 .*1/1 " kubectl get jobs -n istio-system
done
is "23 kinds are counted" between 23 "$(kubectl get crds | grep -c 'istio.io')" 23

step 4.2 "credentials for the dashboards"
for name in grafana kiali; do
  USERNAME=$(printf $name | base64) PASSPHRASE=$(printf secret | base64)
  sed -E 's|\$[A-Z]+_USERNAME|'$USERNAME'|; s|\$[A-Z]+_PASSPHRASE|'$PASSPHRASE'|' inline-from-seed/$name-secret.yaml >$name-secret.yaml
  is "secret $name is created" has "^secret/$name created$" kubectl apply -f $name-secret.yaml
done

step 4.3 "install by Helm, with mutual TLS"
helm install istio.io/istio --name istio --namespace istio-system --version "1.3.2" \
  --set global.controlPlaneSecurityEnabled=true \
  --set global.mtls.enabled=true \
  --set grafana.enabled=true --set grafana.security.enabled=true \
  --set tracing.enabled=true \
  --set kiali.enabled=true \
  --set global.defaultNodeSelector."beta\.kubernetes\.io/os"=linux
kubectl get svc --namespace istio-system --output wide >services
while read -r name ports; do
  is "Service $name has its ports" has "^$name .* $ports " cat services
done <<'LIST'
grafana 3000/TCP
istio-citadel 8060/TCP,15014/TCP
istio-galley 443/TCP,15014/TCP,9901/TCP
istio-pilot 15010/TCP,15011/TCP,8080/TCP,15014/TCP
istio-policy 9091/TCP,15004/TCP,15014/TCP
istio-sidecar-injector 443/TCP,15014/TCP
istio-telemetry 9091/TCP,15004/TCP,15014/TCP,42422/TCP
jaeger-agent 5775/UDP,6831/UDP,6832/UDP
jaeger-collector 14267/TCP,14268/TCP
jaeger-query 16686/TCP
kiali 20001/TCP
prometheus 9090/TCP
tracing 80/TCP
zipkin 9411/TCP
LIST
is "the gateway is a LoadBalancer" has '^istio-ingressgateway +LoadBalancer ' cat services
for port in 15020 443 31400 15029 15030 15031 15032 15443; do
  is "the gateway has port $port" has "^istio-ingressgateway .*[ ,]$port:" cat services
done
is "there are 15 Services" between 15 "$(tail -n +2 services | wc -l)" 15
becomes "pods run or are completed" bash -c '! kubectl get pods --namespace istio-system --no-headers | grep -Ev "([0-9])/\1 +Running|0/1 +Completed"'
is "mutual TLS is on" has 'mtlsMode +STRICT' "$IRONMESH" settings mtlsMode

step 4.4 "the application, injected by label"
kubectl create ns voting
is "it is labelled" has 'voting.* labeled$' kubectl label namespace voting istio-injection=enabled
kubectl apply -f kubernetes/step-1-create-voting-app.yaml --namespace voting
becomes "five pods are 2/2" pods voting 5 2/2
podName=$(kubectl get pods -n voting -l app=voting-app -o jsonpath='{.items[0].metadata.name}')
kubectl describe pod $podName --namespace voting >described
for text in '^ +istio-init:$' '^ +istio-proxy:$' 'sidecar.istio.io/status' '/healthz/ready'; do
  is "describe shows $text" has "$text" cat described
done

step 4.5 "the page at the gateway"
gateway
is "there is nothing before the Gateway" bash -c "! curl -s -m 5 http://$GATEWAY_URL"
kubectl apply -f istio/step-1-create-voting-app-gateway.yaml --namespace voting
becomes "the page is there" has '<div id="results">' page
is "it is kept in Redis" has 'store: redis' page
for vote in Cats Dogs Dogs; do is "a vote is taken" status 302 "http://$GATEWAY_URL/" -d vote=$vote; done
is "the votes are counted" has 'Cats: 1 \| Dogs: 2' page

step 4.6 "a second version of the analytics, in turn with the first"
kubectl apply -f kubernetes/step-2-update-voting-analytics-to-1.1.yaml --namespace voting
becomes "six pods are 2/2" pods voting 6 2/2
becomes "percentages are seen" has 'Cats: 1/3 \(33%\) \| Dogs: 2/3 \(67%\)' page
calls 40 page >pages
is "both versions answer: 1.0" between 5 "$(grep -c 'results"> Cats: 1 | Dogs: 2 </div>' pages)" 35
is "both versions answer: 1.1" between 5 "$(grep -c '(33%)' pages)" 35

step 4.7 "every version asks its own"
kubectl apply -f istio/step-2-update-and-add-routing-for-all-components.yaml --namespace voting
only_new() { [ "$(calls 5 page | grep -c '[0-9]%)')" -eq 5 ]; }
becomes "5 of 5 pages show percentages" only_new
is "the storage is asked by the rule for the caller" has 'voting/voting-storage#tcp\[0\]' "$IRONMESH" -n voting explain --from deploy/voting-app-1-0 tcp://voting-storage:6379
is "and who has no rule gets the Service as it is" has 'default_route|no route applies' "$IRONMESH" -n voting explain --from deploy/voting-analytics-1-0 tcp://voting-storage:6379

step 4.8 "routes to what is not there yet"
kubectl apply -f istio/step-3-add-routing-for-2.0-components.yaml --namespace voting
becomes "who has the cookie is told that nothing answers" status 503 "http://$GATEWAY_URL" --cookie featureflag=on
is "others are served as before" has 'store: redis' page
is "an empty cookie is none" has 'store: redis' page --cookie featureflag=

if command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ]; then
  step 4.9 "the release with another database"
  kubectl apply -f kubernetes/step-3-update-voting-app-with-new-storage.yaml --namespace voting
  for app in app analytics storage; do
    becomes "the $app of 2.0 is ready" kubectl rollout status deployment/voting-$app-2-0 --namespace voting --timeout=50s
  done
  is "all pods are 2/2" pods voting "$(kubectl get pods -n voting --no-headers | wc -l)" 2/2
  is "others are served as before" has 'store: redis' page

  step 4.10 "the canary by cookie, end to end"
  becomes "the feature flag is a cookie" has '^set-cookie: featureflag=on; Path=/; Expires=' page -i -X POST "http://$GATEWAY_URL/featureflag/set"
  becomes "who has it sees the new release" has 'store: mysql' page --cookie featureflag=on
  becomes "its votes are its own" has '<div id="results"> Cats: 0/0 \(0%\) \| Dogs: 0/0 \(0%\) </div>' page --cookie featureflag=on
  is "a vote is taken" status 302 "http://$GATEWAY_URL/" -d vote=Cats --cookie featureflag=on
  becomes "and counted" has 'Cats: 1/1 \(100%\)' page --cookie featureflag=on
  is "others have theirs" has 'store: redis' page
  is "a cleared flag is none" has 'store: redis' page --cookie featureflag=
else
  skipped 4.9 "the release with another database" "there is no mariadbd"
  skipped 4.10 "the canary by cookie, end to end" "follows 4.9"
fi
later 4.11 "Grafana" "metrics and their dashboards come with the store of telemetry"
later 4.12 "Prometheus" "metrics and their dashboards come with the store of telemetry"
later 4.13 "Kiali" "metrics and their dashboards come with the store of telemetry"
