"""What the server costs and brings, measured beside what people use otherwise: scripts/benchmark."""
