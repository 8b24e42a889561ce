"""What is in an image, as software bills of materials in the formats of SPDX and CycloneDX."""
