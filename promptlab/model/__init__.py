"""The import path of promptlab 0.1 for models; what answers is in promptlab.models."""
