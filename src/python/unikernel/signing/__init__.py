"""Keys, signatures, attestations and their verification, in the formats of Sigstore and in-toto."""
