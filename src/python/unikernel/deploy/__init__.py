"""Deployment manifests: what Kubernetes, urunc and KubeVirt need to run a service as a container or as a unikernel."""
