"""Speed and memory of the library, side by side with what one would otherwise write. `make bench` runs it."""
