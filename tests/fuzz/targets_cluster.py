"""A kubeconfig, and what an API server lists."""

import json
from typing import Final

from syncer.cluster.doors import ingress_to, route_to
from syncer.cluster.kubeconfig import find_access
from syncer.logs import redact
from tests.fuzz.target import Target, scratch


def _kubeconfig(data: bytes) -> None:
    path = scratch() / "kubeconfig"
    path.write_bytes(data)
    access = find_access({"KUBECONFIG": str(path)})
    redact(f"{access.server} {access.proxy} {access.unchecked}")
    for held in access.held:
        held.close()


_KUBECONFIG: Final = (
    b"apiVersion: v1\nkind: Config\ncurrent-context: me\nclusters:\n- name: here\n  cluster:\n    server: https://api:6443\n"
    b"    certificate-authority-data: LS0tLS0=\n    proxy-url: http://proxy:3128\n    insecure-skip-tls-verify: false\n"
    b"contexts:\n- name: me\n  context: {cluster: here, user: me, namespace: mine}\nusers:\n- name: me\n  user:\n"
    b"    token: sha256~abc\n    tokenFile: token\n"
)
_KUBECONFIG_EXEC: Final = (
    b"current-context: me\nclusters: [{name: here, cluster: {server: 'https://api:6443'}}]\n"
    b"contexts: [{name: me, context: {cluster: here, user: me}}]\nusers:\n- name: me\n  user:\n    exec:\n"
    b"      command: ./plugin\n      apiVersion: client.authentication.k8s.io/v1\n      args: [get, token]\n"
    b"      env: [{name: A, value: b}]\n"
)
_KUBECONFIG_BOMB: Final = (
    b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\ni: &i [*h,*h,*h,*h,*h,*h,*h,*h,*h]\n"
    b"current-context: *i\nclusters: [{name: *i, cluster: {server: *i}}]\n"
    b"contexts: [{name: *i, context: {cluster: *i}}]\n"
)


def _ways(data: bytes) -> None:
    """Routes and Ingresses, as the API server lists them."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    listed = [each for each in document if isinstance(each, dict)] if isinstance(document, list) else []
    for find in (route_to, ingress_to):
        redact(find(listed, "s3", frozenset({"443", "s3-https"})))


_ROUTES: Final = [
    {
        "spec": {
            "host": "s3.apps.example",
            "to": {"kind": "Service", "name": "s3"},
            "port": {"targetPort": "s3-https"},
            "tls": {"termination": "reencrypt"},
        },
        "status": {"ingress": [{"conditions": [{"type": "Admitted", "status": "True"}]}]},
    },
    {
        "spec": {
            "tls": [{"hosts": ["s3.apps.example"]}],
            "rules": [
                {
                    "host": "s3.apps.example",
                    "http": {"paths": [{"path": "/", "backend": {"service": {"name": "s3", "port": {"number": 443}}}}]},
                }
            ],
        }
    },
]


TARGETS: Final = (
    Target("kubeconfig", _kubeconfig, (_KUBECONFIG, _KUBECONFIG_EXEC, _KUBECONFIG_BOMB)),
    Target("cluster-ways", _ways, (json.dumps(_ROUTES).encode(),)),
)
