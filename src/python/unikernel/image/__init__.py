"""Images: the final link, and the manifest that travels inside each."""
