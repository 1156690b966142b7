"""The import path of promptlab 0.1 for what `from promptlab import …` gives."""

from promptlab.predecessor import moved

__getattr__ = moved(
    __name__,
    [
        "Dataset",
        "EmbeddingModel",
        "EvaluationConfig",
        "ExperimentConfig",
        "Model",
        "ModelConfig",
        "ModelResponse",
        "PromptTemplate",
    ],
    {"TracerConfig": 'a lab takes a dict, as in PromptLab({"type": "sqlite", "db_file": "./promptlab.db"})'},
)
