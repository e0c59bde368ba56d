"""Images: each optimisation on top of the last, the engine with several images under way, and what the chip allows."""
