"""The ledger, the blobs and the secrets of an AWS account. Nothing of AWS's SDK is imported
before the first call."""
