"""Rules that find and compare answers, as pure functions of texts: VLMEvalKit's and those of the benchmarks' authors."""
