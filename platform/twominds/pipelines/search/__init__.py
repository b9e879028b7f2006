"""The stability search: candidates, their seeds, what ends them, where they rest, and the winner."""
