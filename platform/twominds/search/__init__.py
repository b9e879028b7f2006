"""What a search is, without Ray: its candidates and their seeds, what ends them, where they rest, and the winner."""
