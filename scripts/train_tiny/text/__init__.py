"""A tiny Gemma that tells small stories: the stories it learns from, its training and its evaluation."""
