"""Where answers come from: a model folder, an endpoint, or a file of predictions; which pictures they see, and how they are kept."""
