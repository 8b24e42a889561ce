"""OCI images: layouts, and container images of the root file systems that unikernels have."""
