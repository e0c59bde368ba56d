"""The training of the tiny models that the server runs when no other is named."""
