"""The parts of the tiny models' makers: the text their tokenizer learns from, the tokenizer, the weights, LoRA."""
