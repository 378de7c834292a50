"""Evaluations as other programs read them: VLMEvalKit and Inspect."""
