"""The import path of promptlab 0.1 for Model, which `from promptlab import Model` gives."""

from promptlab.predecessor import moved

__getattr__ = moved(__name__, ["EmbeddingModel", "Model", "ModelConfig", "ModelResponse"], {})
