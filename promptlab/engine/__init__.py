"""The four steps of a run, over ports: plan, infer, evaluate, summarize."""
